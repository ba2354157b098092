"""The join: what all parts say of one uid becomes one pair, whatever the parts."""

import pyarrow.parquet as pq
import pytest

from curation.pool.store import ImagePlace, ImageReader, PoolSink, part_counts, part_folder
from curation.table import schemas
from pipeline.errors import DataError
from tests.helpers.joins import join_bucket
from tests.helpers.small_crawl import picture

A, B, C = (f"http://site.test/{name}.png" for name in "abc")


def pool_of(folder, *parts):
    """Each part is a list of ("o" | "i", keyword arguments)."""
    for number, rows in enumerate(parts):
        with PoolSink(str(folder), f"part{number}") as sink:
            for kind, row in rows:
                (sink.occurrence if kind == "o" else sink.image)(**row)
            sink.finish({"records": len(rows)})
    return str(folder), [f"part{number}" for number in range(len(parts))]


def said(url, text, source="alt", **more):
    return "o", {"url": url, "text": text, "source": source, **more}


def got(url, body, **more):
    return "i", {"url": url, "body": body, **more}


def joined(folder, *parts):
    pool, names = pool_of(folder, *parts)
    tables = [join_bucket(pool, names, bucket, 4) for bucket in range(4)]
    rows = [row for pairs, _ in tables for row in pairs.to_pylist()]
    reasons = [reason for _, verdicts in tables for reason in verdicts.reason.to_pylist()]
    assert [row["uid"] for row in rows] == sorted(row["uid"] for row in rows)
    return {row["url"]: (row, reason) for row, reason in zip(rows, reasons, strict=True)}


def test_mentions_of_one_url_are_one_pair_with_its_captions_in_order(tmp_path):
    rows = [
        said(A, "b", "title"),
        said(A, "z"),
        said(A, "a"),
        said(A, "a", page_url="http://p/2", page_robots="noai"),
        said(A, "  "),
        said(A, "q", "unknown"),
        got(A, picture(1)),
    ]
    pair, reason = joined(tmp_path, rows[:3], rows[3:])[A]
    assert reason is None
    assert [(c["text"], c["source"]) for c in pair["captions"]] == [
        ("a", "alt"),
        ("z", "alt"),
        ("b", "title"),
        ("q", "unknown"),
    ]
    assert pair["captions"][0]["page_robots"] == "noai"  # an opt-out of any page that carries it is seen


def test_of_several_captures_the_newest_good_one_counts_then_the_smallest_digest(tmp_path):
    old, new, also_new = picture(1), picture(2), picture(3)
    rows = [
        got(A, old, fetched_at="2023"),
        got(A, None, status=500, fetched_at="2025"),
        got(A, new, fetched_at="2024", x_robots_tag="bot: noai"),
        got(A, also_new, fetched_at="2024"),
        got(A, b"<html>", fetched_at="2026", x_robots_tag="noimageai"),
        said(A, "x"),
    ]
    first = joined(tmp_path / "1", rows)[A][0]
    again = joined(tmp_path / "2", rows[3:], rows[:3][::-1])[A][0]
    drop = ("image_part", "image_offset")
    assert {k: v for k, v in first.items() if k not in drop} == {k: v for k, v in again.items() if k not in drop}
    place = (first["image_part"], first["image_offset"], first["image_size"], first["image_sha256"])
    body = ImageReader(str(tmp_path / "1")).read(ImagePlace(*place))
    assert body in (new, also_new) and first["fetched_at"] == "2024"
    assert first["x_robots_tag"] == "noimageai, bot: noai"  # what one robot is told goes last


def test_what_many_pages_say_of_one_image_is_bounded_and_no_opt_out_is_lost(tmp_path):
    pages = [said(A, "a", page_url=f"http://p/{n}", page_robots=f"robot{n}: x{n}, word{n}") for n in range(400)]
    pages.append(said(A, "a", page_url="http://p/last", page_robots="zbot: noai"))
    captures = [got(A, picture(1), x_robots_tag=f"word{n}, bot{n}: x") for n in range(300)]
    captures.append(got(A, picture(1), x_robots_tag="zbot: noimageai"))
    pair, _ = joined(tmp_path, pages + captures[:200], captures[200:])[A]
    heard, tags = pair["captions"][0]["page_robots"], pair["x_robots_tag"]
    assert heard.startswith("noai, ") and len(heard) <= 1000 and heard.endswith(" more")
    assert tags.startswith("noimageai, ") and len(tags) <= 1000


@pytest.mark.parametrize(
    ("rows", "reason", "detail"),
    [
        ([said(A, "x")], "image_missing", None),
        ([said(A, "x"), got(A, b"no", status=404)], "http_error", "404"),
        ([said(A, "x"), got(A, b"<html>", content_type="image/png")], "not_image", "image/png"),
        ([said(A, "x"), got(A, b"", content_type="image/gif")], "empty", "image/gif"),
        ([said(A, "x"), got(A, b"", status=204)], "empty", ""),
        ([said(A, "x"), got(A, b"", status=500, problem="truncated")], "http_error", "500"),
        *[([said(A, " "), got(A, picture(1), problem=word)], word, "") for word in schemas.PROBLEMS],
        *[([said(A, "x"), got(A, None, status=0, problem=word)], word, "") for word in schemas.PROBLEMS],
        ([said(A, " "), got(A, picture(1))], "no_caption", None),
        ([got(A, picture(1))], "no_caption", None),
        ([said(A, "x"), got(A, picture(1))], None, None),
    ],
)
def test_each_pair_that_is_none_has_its_reason(tmp_path, rows, reason, detail):
    pool, parts = pool_of(tmp_path, rows)
    _, verdicts = join_bucket(pool, parts, 0, 1)
    assert verdicts.reason.to_pylist() == [reason]
    assert verdicts.detail.to_pylist() == [detail]


def test_an_answer_nobody_asked_for_without_bytes_is_no_pair(tmp_path):
    pool, parts = pool_of(tmp_path, [got(B, b"no", status=404), said(C, "x")])
    pairs, _ = join_bucket(pool, parts, 0, 1)
    assert pairs.column("url").to_pylist() == [C]


def test_buckets_laid_end_to_end_are_the_whole(tmp_path):
    rows = [said(f"http://site.test/{n}", f"caption {n}") for n in range(200)]
    pool, parts = pool_of(tmp_path, rows[:77], rows[77:])
    whole, _ = join_bucket(pool, parts, 0, 1)
    split = [row for bucket in range(16) for row in join_bucket(pool, parts, bucket, 16)[0].to_pylist()]
    assert split == whole.to_pylist() and len(split) == 200


def test_a_stored_body_is_kept_once_and_read_back_checked(tmp_path):
    body = picture(5)
    pool, _ = pool_of(tmp_path, [got(A, body), got(B, body), got(C, picture(6))])
    rows = pq.read_table(tmp_path / "parts" / "part0" / "images.parquet").to_pylist()
    same = [row for row in rows if row["url"] in (A, B)]
    assert same[0]["offset"] == same[1]["offset"] and part_counts(pool, "part0")["images_stored"] == 3
    with pytest.raises(DataError, match="images.tar at byte"):
        ImageReader(pool).read(ImagePlace("part0", same[0]["offset"] + 1, same[0]["size"], same[0]["sha256"]))


def test_a_problem_that_is_no_reason_of_the_pool_is_a_mistake_of_the_source(tmp_path):
    with pytest.raises(ValueError, match="problem 'odd'; expected one of empty, "):
        pool_of(tmp_path, [got(A, None, problem="odd")])


def test_a_part_left_half_way_is_not_there(tmp_path):
    with pytest.raises(RuntimeError, match="boom"), PoolSink(str(tmp_path), "p") as sink:
        sink.occurrence(url=A, text="x", source="alt")
        raise RuntimeError("boom")
    assert part_counts(str(tmp_path), "p") is None
    assert not [path for path in (tmp_path / "parts" / "p").glob("*") if path.is_file()]


def test_the_order_of_records_leaves_no_trace_in_the_tables_and_broken_text_is_mended(tmp_path):
    rows = [said(f"http://site.test/{n}", "x\ud800") for n in range(9)]
    for name, order in (("a", rows), ("b", rows[::-1])):
        pool_of(tmp_path / name, order)
    one, two = ((tmp_path / name / "parts/part0/occurrences.parquet").read_bytes() for name in "ab")
    assert one == two
    assert pq.read_table(tmp_path / "a/parts/part0/occurrences.parquet")["text"][0].as_py() == "x?"


def test_the_folder_of_a_part_is_where_the_readme_says(tmp_path):
    assert part_folder("pool", "ab") == "pool/parts/ab"
