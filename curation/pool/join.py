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
from curation.table.coded import WORDS, Coded
from curation.table.uids import bucket_range
from pipeline import storage
from pipeline.errors import DataError, one_line

POOL = "pool"
"""The name under which the join is reported: the first stage of every recipe."""
_NO_IMAGE = {"sha256": "", "part": "", "offset": 0, "size": 0, "ext": "", "status": 0, "problem": ""}


def join_bucket(pool: str, parts: list[str], bucket: int, buckets: int) -> tuple[pa.Table, Verdicts]:
    """PAIRS of one bucket sorted by uid, and the verdicts of the stage "pool" on them:

    image_missing  no answer to the image's url is in the input
    http_error     an answer, but not a 2xx (detail: the status)
    <problem>      a 2xx whose body is of no use: one of schemas.PROBLEMS (detail: the content type)
    no_caption     an image that no text speaks of
    """
    low, high = bucket_range(bucket, buckets)
    occurrences = _rows(pool, parts, "occurrences.parquet", schemas.OCCURRENCES, low, high)
    images = _rows(pool, parts, "images.parquet", schemas.IMAGES, low, high)
    best = _best_images(images.table)
    stored = best.filter(pc.is_valid(best.column("size"))).column("uid")
    uids = pc.unique(pa.chunked_array([*occurrences.table.column("uid").chunks, *stored.chunks], pa.string()))
    uids = uids.take(pc.sort_indices(uids))
    chosen = best.take(pc.index_in(uids, best.column("uid")))
    try:
        pairs = _assemble(uids, chosen, images, occurrences)
    except pa.ArrowInvalid as error:  # 32-bit offsets
        found, hint = f"more than 2 GiB of captions: {one_line(error)}", "give `curate.buckets` a larger power of two"
        raise DataError(f"bucket {bucket} of {buckets}", found, "at most 2 GiB a bucket", hint) from error
    return pairs, _verdicts(pairs, chosen, images)


def _rows(pool: str, parts: list[str], name: str, schema: pa.Schema, low: str, high: str) -> Coded:
    """What all parts say, with ranks for texts: a page's address and robots stand in many rows. Uids stay texts."""
    texts = [f.name for f in schema if pa.types.is_string(f.type) and f.name != "uid"]
    urls = [storage.join(part_folder(pool, part), name) for part in parts]
    found = [parquet.read_range(url, "uid", low, high, dictionaries=texts) for url in urls]
    kinds = [pa.field(f.name, WORDS if f.name in texts else f.type) for f in schema]
    return Coded.of(pa.concat_tables([table.cast(pa.schema(kinds)) for table in found or [schema.empty_table()]]))


def _starts(*columns: pa.ChunkedArray) -> np.ndarray:
    """True where a row of sorted columns differs from the row before it."""
    length = len(columns[0])
    new = np.zeros(length, bool)
    new[:1] = True
    for column in columns:
        new[1:] |= pc.not_equal(column.slice(1), column.slice(0, max(length - 1, 0))).to_numpy(zero_copy_only=False)
    return new


def _best_images(images: pa.Table) -> pa.Table:
    """One row per uid: stored bytes before errors, then the newest capture, then by content: the smallest sha256 and
    so on. Of rows that say all the same it is no matter which lends its place in the pool."""
    missing = pc.is_null(images.column("size"))
    keyed = images.append_column("missing", pc.cast(missing, pa.int8()))
    order = [
        ("uid", "ascending"),
        ("missing", "ascending"),
        ("fetched_at", "descending"),
        ("sha256", "ascending"),
        ("status", "ascending"),
        ("problem", "ascending"),
        ("content_type", "ascending"),
        ("ext", "ascending"),
        ("extra", "ascending"),
        ("part", "ascending"),
        ("offset", "ascending"),
    ]
    keyed = keyed.sort_by(order)
    return keyed.filter(pa.array(_starts(keyed.column("uid")))).drop_columns(["missing"])


def _robots(coded: Coded, keys: list[str], column: str) -> dict[tuple[object, ...], str]:
    """key (ranks, but for uids) -> the union of the non-empty values of `column`."""
    table, words = coded.table, coded.words[column].to_pylist()
    spoken = table.filter(coded.where(column, pc.not_equal(coded.words[column], "")))
    found: dict[tuple[object, ...], set[int]] = {}
    for *key, value in zip(*(spoken.column(name).to_pylist() for name in [*keys, column]), strict=True):
        found.setdefault(tuple(key), set()).add(value)
    return {key: robots.joined((words[rank] for rank in ranks), sort=True)[0] for key, ranks in found.items()}


def _captions(occurrences: Coded, uids: pa.Array) -> pa.ListArray:
    """Per uid the distinct (text, source), by source priority, then text; blank texts are no captions."""
    spoken = pc.not_equal(pc.utf8_trim_whitespace(occurrences.words["text"]), "")
    said = occurrences.filter(occurrences.where("text", spoken))
    order = pc.index_in(said.words["source"], pa.array(schemas.SOURCE_ORDER, pa.large_string()))
    table = said.table.append_column("rank", said.where("source", pc.fill_null(order, len(schemas.SOURCE_ORDER))))
    table = table.sort_by([(name, "ascending") for name in ("uid", "rank", "source", "text", "page_url", "language")])
    heard = _robots(said, ["uid", "text", "source"], "page_robots")
    table = table.filter(pa.array(_starts(*(table.column(name) for name in ("uid", "source", "text")))))
    keys = zip(*(table.column(name).to_pylist() for name in ("uid", "text", "source")), strict=True)
    union = pa.array([heard.get(key, "") for key in keys], pa.string())
    flat = pa.table({captions.ROW: pc.cast(pc.index_in(table.column("uid"), uids), pa.int64())})
    for field in schemas.CAPTION_FIELDS:
        texts = union if field.name == "page_robots" else said.text(field.name, table).cast(pa.string())
        flat = flat.append_column(field, texts)
    return captions.implode(flat, len(uids))


def _first_text(uids: pa.Array, coded: Coded, column: str) -> pa.Array:
    """Per uid the smallest non-empty value of `column`, or ""."""
    said = coded.table.filter(coded.where(column, pc.not_equal(coded.words[column], "")))
    least = said.group_by("uid").aggregate([(column, "min")]).rename_columns({f"{column}_min": column})
    at = pc.index_in(uids, least.column("uid"))
    return pc.fill_null(coded.text(column, least).take(at), "").cast(pa.string())


def _smaller(one: pa.Array, other: pa.Array) -> pa.Array:
    """Row by row the smaller of two texts, where "" is none."""
    use_other = pc.or_(pc.equal(one, ""), pc.and_(pc.not_equal(other, ""), pc.less(other, one)))
    return pc.if_else(use_other, other, one)


def _of_image(name: str, chosen: pa.Table, images: Coded) -> pa.Array:
    """A column of IMAGES for every pair; no image, no value."""
    return pc.fill_null(images.text(name, chosen), _NO_IMAGE.get(name, "")).cast(schemas.IMAGES.field(name).type)


def _assemble(uids: pa.Array, chosen: pa.Table, images: Coded, occurrences: Coded) -> pa.Table:
    def image(name: str) -> pa.Array:
        return _of_image(name, chosen, images)

    tags = _robots(images, ["uid"], "x_robots_tag")
    extra = image("extra")
    mentioned = _first_text(uids, occurrences, "extra")
    columns = {
        "uid": uids,
        "url": _smaller(_first_text(uids, occurrences, "url"), _first_text(uids, images, "url")),
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


def _verdicts(pairs: pa.Table, chosen: pa.Table, images: Coded) -> Verdicts:
    status, none = pairs.column("status"), pa.scalar(None, pa.string())
    problem = _of_image("problem", chosen, images)
    missing = pc.is_null(chosen.column("uid"))
    unfit = pc.not_equal(problem, "")
    refused = pc.or_(pc.less(status, 200), pc.greater_equal(status, 300))
    silent = pc.equal(pc.list_value_length(pairs.column("captions")), 0)
    reason = pc.case_when(
        pc.make_struct(missing, unfit, refused, silent), "image_missing", problem, "http_error", "no_caption"
    )
    detail = pc.case_when(
        pc.make_struct(missing, unfit, refused), none, pairs.column("content_type"), pc.cast(status, pa.string())
    )
    return Verdicts(reason=reason, detail=detail)
