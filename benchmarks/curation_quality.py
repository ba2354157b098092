"""How well does curation tell good pairs from bad? A finished dataset against a list that says what each url is.

    python benchmarks/curation_quality.py runs/x/data truth.jsonl

The list has one JSON object a line with `url` and `kind`, and `source` (what the image was made from, so that copies of
one image are known). Printed:

per kind     how many pairs, how many kept, how many merged into another pair as copies, and why the others went
recall       of the kinds that ought to go, the share that went (for copies: that all but one of a source went)
precision    of every reason, the share of its pairs that are not `clean`; and of the duplicate stages the share of the
             removed whose survivor shows an image made from the same source
"""

import argparse
import json
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.contract.pairs import INDEX
from pipeline.outputs import VERDICTS

COPIES = ("exact_dup", "near_dup")
_MERGED = ("exact_duplicates", "perceptual_duplicates")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="output folder of `clipmill curate`")
    parser.add_argument("truth", type=Path, help="JSON lines with url, kind and source")
    args = parser.parse_args()
    truth = {row["url"]: row for row in map(json.loads, args.truth.read_text(encoding="utf-8").splitlines())}
    kept = {row["url"]: row["uid"] for row in _rows(args.data / INDEX, ["uid", "url"])}
    dropped = {row["url"]: row for row in _rows(args.data / VERDICTS, ["uid", "url", "stage", "reason", "detail"])}
    print_kinds(truth, kept, dropped)
    print_copies(truth, kept)
    print_reasons(truth, kept, dropped)


def print_kinds(truth: dict[str, dict], kept: dict[str, str], dropped: dict[str, dict]) -> None:
    print(f"{'kind':>12} {'n':>6} {'kept':>6} {'merged':>7} {'gone':>6} {'unseen':>7}   reasons")
    for kind, num in Counter(row["kind"] for row in truth.values()).most_common():
        urls = [url for url, row in truth.items() if row["kind"] == kind]
        reasons = Counter(_reason(dropped[url]) for url in urls if url in dropped)
        merged = sum(count for reason, count in reasons.items() if _is_merge(reason))
        stays, gone = sum(url in kept for url in urls), sum(reasons.values())
        listed = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
        unseen = num - stays - gone
        print(f"{kind:>12} {num:6} {stays:6} {merged:7} {gone - merged:6} {unseen:7}   {listed}")


def print_copies(truth: dict[str, dict], kept: dict[str, str]) -> None:
    """Of each kind of copy, how many still stand beside another kept pair of the same source."""
    of_source: dict[str, list[str]] = defaultdict(list)
    for url in kept:
        if url in truth:
            of_source[truth[url]["source"]].append(url)
    print("\nextra copies left among the kept pairs")
    for kind in COPIES:
        num = sum(row["kind"] == kind for row in truth.values())
        left = sum(min(sum(truth[url]["kind"] == kind for url in urls), len(urls) - 1) for urls in of_source.values())
        print(f"{kind:>12} {left:6} of {num}: recall {1 - left / max(num, 1):.3f}")


def print_reasons(truth: dict[str, dict], kept: dict[str, str], dropped: dict[str, dict]) -> None:
    source_of = {kept[url]: truth[url]["source"] for url in kept if url in truth}
    source_of |= {row["uid"]: truth[url]["source"] for url, row in dropped.items() if url in truth}
    known = [(url, row) for url, row in dropped.items() if url in truth]
    print(f"\n{'reason':>36} {'n':>6} {'not clean':>10} {'same source':>12}")
    for reason, num in Counter(_reason(row) for _, row in known).most_common():
        of_it = [(truth[url], row) for url, row in known if _reason(row) == reason]
        bad = sum(row["kind"] != "clean" for row, _ in of_it) / num
        same = sum(source_of.get(verdict["detail"]) == row["source"] for row, verdict in of_it) / num
        print(f"{reason:>36} {num:6} {bad:10.3f} {f'{same:.3f}' if _is_merge(reason) else '':>12}")


def _reason(row: dict[str, str]) -> str:
    return f"{row['stage']}.{row['reason']}"


def _is_merge(reason: str) -> bool:
    return reason.endswith(".copy") and reason.startswith(_MERGED)


def _rows(folder: Path, columns: list[str]) -> list[dict[str, str]]:
    tables = [pq.read_table(path, columns=columns) for path in sorted(folder.glob("*.parquet"))]
    if not tables:
        raise SystemExit(f"{folder}: holds no parquet files; expected the output folder of `clipmill curate`")
    return pa.concat_tables(tables).to_pylist()


if __name__ == "__main__":
    main()
