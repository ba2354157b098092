"""The join: what all parts say about the uids of one bucket, as one row of PAIRS per uid.

The universe is every uid that some page mentions or whose image bytes are stored. Nothing here depends on how the
input was cut into parts: of several captures of one url one is chosen by content, captions are a sorted set.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.pool.store import part_folder
from curation.stage import Verdicts
from curation.table import captions, parquet, robots, schemas
from curation.table.uids import bucket_range
from pipeline import storage

_NO_IMAGE = {"sha256": "", "part": "", "offset": 0, "size": 0, "ext": "", "status": 0}


def join_bucket(pool: str, parts: list[str], bucket: int, buckets: int) -> tuple[pa.Table, Verdicts]:
    """PAIRS of one bucket sorted by uid, and the verdicts of the stage "pool" on them:

    image_missing  no answer to the image's url is in the input
    http_error     an answer, but not a 2xx
    not_image      a 2xx whose body does not start like an image (or is empty)
    no_caption     an image that no text speaks of
    """
    low, high = bucket_range(bucket, buckets)
    occurrences = _rows(pool, parts, "occurrences.parquet", schemas.OCCURRENCES, low, high)
    images = _rows(pool, parts, "images.parquet", schemas.IMAGES, low, high)
    best = _best_images(images)
    stored = best.filter(pc.is_valid(best.column("size"))).column("uid")
    uids = pc.unique(pa.chunked_array([*occurrences.column("uid").chunks, *stored.chunks], pa.string()))
    uids = uids.take(pc.sort_indices(uids))
    pairs = _assemble(uids, best, images, occurrences)
    return pairs, _verdicts(pairs)


def _rows(pool: str, parts: list[str], name: str, schema: pa.Schema, low: str, high: str) -> pa.Table:
    found = [parquet.read_range(storage.join(part_folder(pool, part), name), "uid", low, high) for part in parts]
    return pa.concat_tables([schema.empty_table(), *found]).combine_chunks()


def _starts(*columns: pa.ChunkedArray) -> np.ndarray:
    """True where a row of sorted columns differs from the row before it."""
    length = len(columns[0])
    new = np.zeros(length, bool)
    new[:1] = True
    for column in columns:
        new[1:] |= pc.not_equal(column.slice(1), column.slice(0, max(length - 1, 0))).to_numpy(zero_copy_only=False)
    return new


def _best_images(images: pa.Table) -> pa.Table:
    """One row per uid: stored bytes before errors, then the newest capture, then the smallest sha256."""
    missing = pc.is_null(images.column("size"))
    keyed = images.append_column("missing", pc.cast(missing, pa.int8()))
    order = [
        ("uid", "ascending"),
        ("missing", "ascending"),
        ("fetched_at", "descending"),
        ("sha256", "ascending"),
        ("status", "ascending"),
        ("content_type", "ascending"),
        ("part", "ascending"),
        ("offset", "ascending"),
        ("extra", "ascending"),
    ]
    keyed = keyed.sort_by(order)
    return keyed.filter(pa.array(_starts(keyed.column("uid")))).drop_columns(["missing"])


def _robots(table: pa.Table, keys: list[str], column: str) -> dict[tuple[str, ...], str]:
    """key -> the union of the non-empty values of `column`."""
    spoken = table.filter(pc.not_equal(table.column(column), ""))
    found: dict[tuple[str, ...], set[str]] = {}
    for *key, value in zip(*(spoken.column(name).to_pylist() for name in [*keys, column]), strict=True):
        found.setdefault(tuple(key), set()).add(value)
    return {key: robots.joined(values, sort=True)[0] for key, values in found.items()}


def _captions(occurrences: pa.Table, uids: pa.Array) -> pa.ListArray:
    """Per uid the distinct (text, source), by source priority, then text; blank texts are no captions."""
    spoken = pc.not_equal(pc.utf8_trim_whitespace(occurrences.column("text")), "")
    said = occurrences.filter(spoken)
    rank = pc.index_in(said.column("source"), pa.array(schemas.SOURCE_ORDER))
    said = said.append_column("rank", pc.fill_null(rank, len(schemas.SOURCE_ORDER)))
    names = ["uid", "rank", "source", "text", "page_url", "language"]
    said = said.sort_by([(name, "ascending") for name in names])
    heard = _robots(said, ["uid", "text", "source"], "page_robots")
    said = said.filter(pa.array(_starts(*(said.column(name) for name in ("uid", "source", "text")))))
    rows = pc.cast(pc.index_in(said.column("uid"), uids), pa.int64())
    flat = pa.table({captions.ROW: rows})
    for field in schemas.CAPTION_FIELDS:
        flat = flat.append_column(field, said.column(field.name))
    if heard:
        at = flat.schema.get_field_index("page_robots")
        keys = zip(*(said.column(name).to_pylist() for name in ("uid", "text", "source")), strict=True)
        values = pa.array([heard.get(key, "") for key in keys], pa.string())
        flat = flat.set_column(at, flat.schema.field(at), values)
    return captions.implode(flat, len(uids))


def _first_text(uids: pa.Array, table: pa.Table, column: str) -> pa.Array:
    """Per uid the smallest non-empty value of `column`, or ""."""
    said = table.filter(pc.not_equal(table.column(column), ""))
    least = said.group_by("uid").aggregate([(column, "min")])
    at = pc.index_in(uids, least.column("uid"))
    return pc.fill_null(least.column(f"{column}_min").combine_chunks().take(at), "")


def _assemble(uids: pa.Array, best: pa.Table, images: pa.Table, occurrences: pa.Table) -> pa.Table:
    at = pc.index_in(uids, best.column("uid"))
    chosen = best.take(at)

    def image(name: str) -> pa.ChunkedArray:
        return pc.fill_null(chosen.column(name), _NO_IMAGE.get(name, ""))

    tags = _robots(images, ["uid"], "x_robots_tag")
    extra = image("extra")
    mentioned = _first_text(uids, occurrences, "extra")
    both = pa.concat_tables([occurrences.select(["uid", "url"]), images.select(["uid", "url"])])
    columns = {
        "uid": uids,
        "url": _first_text(uids, both, "url"),
        "image_sha256": image("sha256"),
        "image_part": pc.if_else(pc.is_valid(chosen.column("size")), image("part"), ""),
        "image_offset": image("offset"),
        "image_size": image("size"),
        "image_ext": image("ext"),
        "status": image("status"),
        "content_type": image("content_type"),
        "x_robots_tag": pa.array([tags.get((uid,), "") for uid in uids.to_pylist()], pa.string()),
        "fetched_at": image("fetched_at"),
        "captions": _captions(occurrences, uids),
        "extra": pc.if_else(pc.equal(extra, ""), mentioned, extra),
    }
    return pa.table([columns[name] for name in schemas.PAIRS.names], schema=schemas.PAIRS).combine_chunks()


def _verdicts(pairs: pa.Table) -> Verdicts:
    status = pairs.column("status")
    none = pa.scalar(None, pa.string())
    missing = pc.equal(status, 0)
    refused = pc.or_(pc.less(status, 200), pc.greater_equal(status, 300))
    bare = pc.equal(pairs.column("image_sha256"), "")
    silent = pc.equal(pc.list_value_length(pairs.column("captions")), 0)
    reason = pc.case_when(
        pc.make_struct(missing, refused, bare, silent), "image_missing", "http_error", "not_image", "no_caption"
    )
    detail = pc.case_when(
        pc.make_struct(missing, refused, bare), none, pc.cast(status, pa.string()), pairs.column("content_type")
    )
    return Verdicts(reason=reason, detail=detail)
