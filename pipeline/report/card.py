"""DATA_CARD.md: what a curated set is, for those who are given it. Markdown with a YAML head, as dataset hosts read it.

Everything that comes from inputs (paths, reasons, languages) is escaped: a card is shown as a web page. No clock and no
machine goes into it: the same dataset has the same card.
"""

import json
import re
from collections.abc import Iterable, Sequence
from importlib import metadata

from pipeline import storage
from pipeline.contract.manifest import MANIFEST
from pipeline.outputs import DATA_CARD, RECIPE, SUMMARY
from pipeline.report.curated.origin import downloaded
from pipeline.report.data import Curated, load_run
from pipeline.report.figures import bytes_text, count_text, place, share_text
from pipeline.report.limits import Limits
from pipeline.report.schemas import Download, StageCounts, Summary

_MAX_CHARS = 200
_OPTED_OUT = ("noai", "noimageai", "none", "noindex", "noimageindex", "robots_txt")  # found while downloading
MAX_ROWS = 40  # of a table whose length inputs decide
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+|<>~&:@$^])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]+")
_SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (1e7, "1M<n<10M"),
          (1e8, "10M<n<100M"), (1e9, "100M<n<1B"), (1e10, "1B<n<10B"))  # fmt: skip
_LANGUAGE = re.compile(r"[a-z]{2,3}")
_SAMPLE = """\
Each sample has an image, `KEY.txt` (the first caption) and `KEY.json` (uid, url, sha256 of the image, all captions with
their sources)."""
_LIMITS = """\
Captions are what people wrote beside images on the web, or what the recipe's models made of that: many are wrong, and
some offend. A filter removes what it was made to find and no more; the report beside this card shows pictures of what
was kept and dropped, by reason. Languages and concepts are those of the inputs. Opt-outs are those that the inputs and
the download could see. Images belong to whoever made them: a licence that an input states is in the pair's own JSON,
and clipmill judges none."""


def write_data_card(folder: str, name: str) -> None:
    """Writes the card of the curated set in `folder` (a path or fsspec URL) beside it, atomically; none without a set.
    DataError where a file of it cannot be read."""
    if not storage.exists(storage.join(folder, SUMMARY)):
        return
    curated = load_run(curate_output=folder, train_output=None, eval_output=None, name=name).curated
    assert curated is not None
    recipe = storage.join(folder, RECIPE)
    text = storage.read_bytes(recipe).decode("utf-8", "replace") if storage.exists(recipe) else ""
    storage.publish_bytes(storage.join(folder, DATA_CARD), card(curated, name, text).encode("utf-8", "replace"))


def card(curated: Curated, name: str, recipe: str) -> str:
    """The card as text; `recipe`: the resolved one, YAML, or ""."""
    summary = curated.summary
    kept, came = count_text(summary.pairs_kept), count_text(summary.pairs_in)
    shards = curated.manifest.shards if curated.manifest else []
    word = "shard" if len(shards) == 1 else "shards"
    form = f"{count_text(len(shards))} WebDataset {word} ({bytes_text(sum(shard.bytes for shard in shards))})"
    detected = _detected(summary)
    parts = [
        _head(summary, name),
        f"# {said(name)}\n\n{kept} image-text pairs in {form}, curated by clipmill from {came} pairs. {_SAMPLE}",
        _section("Inputs", _inputs(summary)),
        _section("Where every pair went", _funnel(summary)),
        *([_section("Download", _download(summary.download))] if summary.download else []),
        _section("Opt-outs", _opt_outs(summary.stages)),
        _section("Languages of the first captions, as their pages say", _counts(summary.languages, "not given")),
        *(
            [_section("Languages of the captions, as detected", _counts(detected, "not known", "captions"))]
            if detected
            else []
        ),
        _section("Where the first captions stood", _counts(summary.caption_sources, "not given")),
        _section("Known limits", _LIMITS),
        _section("How it was made", _made(summary, recipe)),
    ]
    return "\n\n".join(parts) + "\n"


def said(text: object) -> str:
    """Untrusted words as Markdown that shows them, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(_CONTROL.sub(" ", str(text)).split())[:_MAX_CHARS])


def _head(summary: Summary, name: str) -> str:
    size = next((label for most, label in _SIZES if summary.pairs_kept < most), "n>10B")
    told = [key for key, number in (_detected(summary) or summary.languages).items() if number]
    codes = sorted({code for code in (key[:3].rstrip("-_").lower() for key in told) if _is_code(code)})[:MAX_ROWS]
    lines = [f"pretty_name: {json.dumps(name)}", f"size_categories: [{json.dumps(size)}]"]
    lines += [f"language: {json.dumps(codes)}"] if codes else []
    lines += ["task_categories: [zero-shot-image-classification]", "tags: [webdataset, image-text, clip, clipmill]"]
    return "\n".join(["---", *lines, "---"])


def _is_code(text: str) -> bool:
    return _LANGUAGE.fullmatch(text) is not None


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}"


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _inputs(summary: Summary) -> str:
    parts = sorted(summary.inputs, key=lambda part: (-part.bytes, part.part))
    rows = [(said(place(part.path)), bytes_text(part.bytes), f"`{part.part}`") for part in parts[:MAX_ROWS]]
    kinds = [(said(each.kind), count_text(each.parts), bytes_text(each.bytes)) for each in summary.sources[:MAX_ROWS]]
    table = _table(("source", "files", "size"), kinds) + "\n\n" if kinds else ""
    more = f"\n\nand {count_text(len(parts) - MAX_ROWS)} more, all in `{MANIFEST}`" if len(parts) > MAX_ROWS else ""
    return table + _table(("file", "size", "part, by content"), rows) + more


def _detected(summary: Summary) -> dict[str, int]:
    """Of the kept captions; {} where no stage looked."""
    tables = [each for told in summary.evidence for each in told.words if told.kind == "language"]
    return {word: kept for each in tables[-1:] for word, _, kept in each.rows}


def _download(download: Download) -> str:
    found = downloaded(download, Limits())
    rows = [(said(each.label), count_text(each.count), share_text(each.count, found.urls)) for each in found.outcomes]
    had = f"{count_text(found.had)} of {count_text(found.asked)} urls that were asked for were had"
    not_asked = found.urls - found.asked
    aside = f", {count_text(not_asked)} more were not asked for on purpose" if not_asked else ""
    return f"{had} ({share_text(found.had, found.asked)}){aside}.\n\n" + _table(("outcome", "urls", "of all"), rows)


def _funnel(summary: Summary) -> str:
    drops = [
        (said(stage.name), said(reason), count_text(number), share_text(number, summary.pairs_in))
        for stage in summary.stages
        for reason, number in sorted(stage.drops.items(), key=lambda item: (-item[1], item[0]))
        if number
    ]
    kept = ("", "**kept**", f"**{count_text(summary.pairs_kept)}**", share_text(summary.pairs_kept, summary.pairs_in))
    gone = sum(number for stage in summary.stages for number in stage.drops.values())
    adds = f"{count_text(summary.pairs_in)} in = {count_text(summary.pairs_kept)} kept + {count_text(gone)} dropped"
    return _table(("stage", "reason", "pairs", "of all"), [*drops, kept]) + f"\n\n{adds}."


def _opt_outs(stages: Sequence[StageCounts]) -> str:
    found = [
        (reason, n)
        for stage in stages
        for reason, n in sorted(stage.drops.items())
        if n and (stage.kind == "opt_out" or (stage.kind == "pool" and reason in _OPTED_OUT))
    ]
    if not found and not any(stage.kind == "opt_out" for stage in stages):
        return "No stage looked for opt-outs."
    listed = ", ".join(f"{said(reason)} {count_text(n)}" for reason, n in found) or "none was found"
    return f"Left out because site or page said so: {listed}."


def _counts(counts: dict[str, int], nothing: str, head: str = "pairs") -> str:
    ordered = sorted(((n, key) for key, n in counts.items() if n), key=lambda item: (-item[0], item[1]))
    rows = [(said(key) or nothing, count_text(n)) for n, key in ordered[:MAX_ROWS]]
    rows += [("others", count_text(sum(n for n, _ in ordered[MAX_ROWS:])))] if len(ordered) > MAX_ROWS else []
    return _table(("", head), rows) if rows else "None were told."


def _made(summary: Summary, recipe: str) -> str:
    rows = [
        ("clipmill", said(metadata.version("clipmill"))),
        ("recipe", f"`{summary.recipe_digest}`"),
        ("manifest", f"`{summary.manifest_digest}`"),
    ]
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", recipe)), 3)
    code = f"\n\nThe recipe, with all that was overridden:\n\n{fence}yaml\n{recipe.strip()}\n{fence}" if recipe else ""
    return _table(("", "digest or version"), rows) + code
