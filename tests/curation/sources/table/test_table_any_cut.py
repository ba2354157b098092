"""What any table holds comes out of it, in every format, packing and cut. The oracle is what was written, by the csv
and json modules and pyarrow."""

import csv
import gzip
import io
import json
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.curation.sources.table.test_table import read
from tests.helpers.warcs import framed

COLUMNS = ("url", "caption", "n", "note")
words = st.text(st.sampled_from("ab ,;\t\"\n\r\\'é名\U0001f600|0"), max_size=12)
urls = st.one_of(
    st.integers(0, 30).map("http://e.org/{}.png".format),
    st.sampled_from([("", "no_url"), ("ftp://x/y", "bad_scheme"), ("http://[", "bad_url"), (None, "no_url")]),
)
# The last field ends in no line end: where quotes are not needed, that could not be told from the row's.
rows_of = st.lists(st.fixed_dictionaries({
    "url": urls, "caption": st.one_of(st.none(), words, words), "n": st.one_of(st.none(), st.integers(-(2**40), 2**40)),
    "note": st.one_of(st.none(), words.map("x{}.".format)),
}), min_size=1, max_size=40)  # fmt: skip


def written(row: dict) -> dict:
    return {**row, "url": row["url"] if isinstance(row["url"], str) else row["url"][0]}


def as_delimited(rows, delimiter, line_end, quoting, bom, last_end) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator=line_end, quoting=quoting)
    writer.writerow(COLUMNS)
    writer.writerows(["" if written(row)[name] is None else written(row)[name] for name in COLUMNS] for row in rows)
    text = file.getvalue() if last_end else file.getvalue().removesuffix(line_end)
    return (b"\xef\xbb\xbf" if bom else b"") + text.encode()


def as_objects(rows, line_end, ascii_only) -> bytes:
    lines = [json.dumps(written(row), ensure_ascii=ascii_only) + line_end for row in rows]
    return "".join(lines).encode()


def as_parquet(rows, group, kind) -> bytes:
    made = [written(row) for row in rows]
    text = {"string": pa.string(), "large": pa.large_string(), "binary": pa.binary()}[kind]
    schema = pa.schema([("url", text), ("caption", text), ("n", pa.int64()), ("note", text)])
    packed = [{k: v.encode() if kind == "binary" and isinstance(v, str) else v for k, v in row.items()} for row in made]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(packed, schema=schema), file, row_group_size=group)
    return file.getvalue()


def expected(rows) -> tuple[Counter, Counter]:
    """(url, text, extra) of mentions; counts of records and reasons. Empty fields of a text table are its nulls."""
    found, counts = Counter(), Counter(records=len(rows))
    for row in rows:
        if not isinstance(row["url"], str):
            counts[f"bad_records:{row['url'][1]}"] += 1
            continue
        text = row["caption"] or ""
        extra = {name: row[name] for name in ("n", "note") if row[name] is not None}
        found[row["url"], text if text.strip() else "", json.dumps(extra, sort_keys=True, ensure_ascii=False)] += 1
    counts["mentions"] = sum(found.values())
    return found, counts


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=rows_of, more=st.data())
def test_every_row_comes_out_once_whatever_the_format_packing_and_cut(tmp_path_factory, rows, more):
    draw = more.draw
    kind = draw(st.sampled_from(["csv", "tsv", "jsonl", "parquet"]))
    if kind in ("csv", "tsv"):
        line_end, quoting = (
            draw(st.sampled_from(["\n", "\r\n"])),
            draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
        )
        data = as_delimited(
            rows, {"csv": ",", "tsv": "\t"}[kind], line_end, quoting, draw(st.booleans()), draw(st.booleans())
        )
    elif kind == "jsonl":
        data = as_objects(rows, draw(st.sampled_from(["\n", "\r\n"])), draw(st.booleans()))
    else:
        data = as_parquet(rows, draw(st.integers(1, 15)), draw(st.sampled_from(["string", "large", "binary"])))
    name = f"a.{kind}"
    if kind != "parquet":
        packed = draw(st.sampled_from(["", ".gz", ".zst"]))
        pack = {"": bytes, ".gz": lambda d: gzip.compress(d[:99]) + gzip.compress(d[99:]), ".zst": framed}[packed]
        name, data = name + packed, pack(data)
    folder = tmp_path_factory.mktemp("any")
    (folder / name).write_bytes(data)
    told, counted = expected(rows)
    for ranges in (None, draw(st.integers(8, 400)), draw(st.integers(8, 400))):
        found, counts = read(folder, folder / name, ranges)
        got = Counter((row["url"], row["text"], row["extra"] or "{}") for row in found)
        assert got == told and Counter(counts) == counted, (name, ranges, data)
