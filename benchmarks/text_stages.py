"""How fast do captions go through language, concept match and balance? Pairs a second of one core, from a table.

    python benchmarks/text_stages.py --pairs 500000

The table is the joined one; captions are 4 to 14 words, half of them WordNet's nouns, by Zipf's law. What is timed is
all that lies between the joined table and the table of pairs that stay: reading, the three stages, writing.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from made_up.inputs import MadeUp
from made_up.pictures import png
from steps import Steps, processor_s

from curation.methods.concepts.matcher import read_entries
from curation.runner import driver
from curation.settings import CurateSettings
from curation.sources.source import Part

_PART = 50_000
_BETWEEN = ("the", "a", "of", "in", "with", "and", "on", "for", "at", "from", "photo", "new", "old", "by")


class Captions(MadeUp):
    """Pairs whose captions are words of WordNet, each with a word between."""

    kind: Literal["captions"] = "captions"  # type: ignore[assignment]
    suffixes: ClassVar[tuple[str, ...]] = (".captions",)

    def ingest(self, part: Part, sink: Any) -> dict[str, int]:
        number = int(Path(part.path).stem)
        rng = np.random.default_rng(number)
        nouns, image = read_entries("builtin:wordnet_nouns"), png(number)
        for at in range(_PART):
            ranks, between = rng.zipf(1.2, int(rng.integers(2, 8))), rng.integers(len(_BETWEEN), size=8)
            words = zip((int(rank) * 7919 % len(nouns) for rank in ranks), between, strict=False)
            text = " ".join(f"{nouns[noun]} {_BETWEEN[small]}" for noun, small in words)
            url = f"http://made.up/{number}/{at}"
            sink.image(url=url, body=image)
            sink.occurrence(url=url, text=text, source="alt", page_url="http://site.test/")
        return {"records": _PART}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=500_000)
    parser.add_argument("--folder", type=Path, default=Path("text-stages"))
    args = parser.parse_args()
    folder, pairs = args.folder, args.pairs // _PART * _PART
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "in").mkdir(parents=True)
    for number in range(pairs // _PART):
        (folder / "in" / f"{number}.captions").write_text(str(number))
    stages = [{"kind": "language"}, {"kind": "concept_match"}, {"kind": "balance", "t": 50}]
    plain = {
        "sources": [{"kind": "warc", "paths": [str(folder)]}],
        "stages": stages,
        "output": str(folder / "out"),
        "ray": {"address": "inline"},
    }
    settings = CurateSettings.model_validate(plain)
    settings = settings.model_copy(update={"sources": [Captions(paths=(str(folder / "in"),))]})
    with Steps(processor_s) as steps:
        driver.curate(settings, name="text stages", seed=1, recipe_digest="text stages", quiet=True)
    shutil.rmtree(folder)
    wanted = {step: spent for step, spent in steps.spent.items() if "language" in step or "balance" in step}
    for step, spent in wanted.items():
        print(f"{step:60} {spent:7.2f} s {pairs / spent:10,.0f} pairs/s")
    print(f"{'from the joined table to what stays':60} {sum(wanted.values()):7.2f} s", end=" ")
    print(f"{pairs / sum(wanted.values()):10,.0f} pairs/s")


if __name__ == "__main__":
    main()
