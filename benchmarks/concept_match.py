"""How fast are concepts matched? clipmill against pyahocorasick and the published plain loop, on the same texts.

    python benchmarks/concept_match.py curation/lists/wordnet_nouns.json
    python benchmarks/concept_match.py ENTRIES.json --texts captions.txt     # one caption a line

All follow the published rule (mode `metaclip`) and must find the same sets, which is checked first. They take turns in
one process and thread; medians and ratios to clipmill are printed. The plain loop, which tries every entry on every
text, gets a smaller share of the texts. pyahocorasick is optional (pip install pyahocorasick). Without --texts, texts
of 11 words are made up: half of their words are common ones, half come from the entries.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable

import pyarrow as pa

from curation.methods.concepts.matcher import ConceptMatcher, metaclip_form, read_entries

Match = Callable[[list[str]], list[list[int]] | pa.Array]
_COMMON = "a the of in on with and photo picture beautiful red blue big".split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entries", help="a JSON list of strings, MetaCLIP's format")
    parser.add_argument("--texts", help="a text file, one caption a line; default: made up")
    parser.add_argument("--num-texts", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    entries = read_entries(args.entries)
    texts = _read(args.texts, args.num_texts) if args.texts else _made_up(entries, args.num_texts)
    few = texts[: max(1, len(texts) // 200)]
    built = {"clipmill": _built(clipmill, entries), "plain loop": _built(plain_loop, entries)}
    try:
        built["pyahocorasick"] = _built(pyahocorasick, entries)
    except ImportError:
        print("pyahocorasick is not installed; compared without it")
    work = {name: few if name == "plain loop" else texts for name in built}
    matchers = {name: match for name, (match, _) in built.items()}
    _check_equal(matchers, work)
    rates = _measure(matchers, work, args.rounds)
    words = sum(len(text.split()) for text in texts) / len(texts)
    found = sum(len(each) for each in matchers["clipmill"](texts)) / len(texts)
    print(f"{len(entries)} entries, {len(texts)} texts of {words:.1f} words, {found:.1f} matches a text")
    own = rates["clipmill"]
    for name, rate in sorted(rates.items(), key=lambda item: -item[1]):
        built_s = f"built in {built[name][1]:5.2f} s"
        print(f"{name:>14}: {rate:12,.0f} texts/s   {built_s}   clipmill is {own / rate:,.2f} x this")


def clipmill(entries: list[str]) -> Match:
    return ConceptMatcher(entries, "metaclip").match_all


def plain_loop(entries: list[str]) -> Match:
    padded = [f" {entry} " for entry in entries]

    def match(texts: list[str]) -> list[list[int]]:
        return [[i for i, entry in enumerate(padded) if entry in form] for form in map(metaclip_form, texts)]

    return match


def pyahocorasick(entries: list[str]) -> Match:
    import ahocorasick

    automaton = ahocorasick.Automaton()
    for i, entry in enumerate(entries):
        automaton.add_word(f" {entry} ", i)
    automaton.make_automaton()
    return lambda texts: [sorted({i for _, i in automaton.iter(metaclip_form(text))}) for text in texts]


def _built(build: Callable[[list[str]], Match], entries: list[str]) -> tuple[Match, float]:
    start = time.perf_counter()
    return build(entries), time.perf_counter() - start


def _check_equal(matchers: dict[str, Match], work: dict[str, list[str]]) -> None:
    expected = matchers["clipmill"](work["clipmill"]).to_pylist()
    for name, match in matchers.items():
        found = match(work[name])
        found = found.to_pylist() if isinstance(found, pa.Array) else found
        if found != expected[: len(found)]:
            raise SystemExit(f"{name} finds other entries than clipmill")


def _measure(matchers: dict[str, Match], work: dict[str, list[str]], rounds: int) -> dict[str, float]:
    """Median texts per second of each."""
    rates: dict[str, list[float]] = {name: [] for name in matchers}
    for _ in range(rounds):
        for name, match in matchers.items():
            start = time.perf_counter()
            match(work[name])
            rates[name].append(len(work[name]) / (time.perf_counter() - start))
    return {name: statistics.median(some) for name, some in rates.items()}


def _read(path: str, most: int) -> list[str]:
    with open(path, encoding="utf-8") as file:
        return [line.rstrip("\n") for line in file][:most]


def _made_up(entries: list[str], num: int) -> list[str]:
    rng = random.Random(0)
    words = [word for entry in entries for word in entry.split(" ")]
    return [" ".join(rng.choice(_COMMON if rng.random() < 0.5 else words) for _ in range(11)) for _ in range(num)]


if __name__ == "__main__":
    main()
