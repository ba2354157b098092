"""The join: what all parts say about some uids, as one row of PAIRS per uid.

The universe is every uid that some page mentions, and every other one whose image bytes are stored in an input, but for
those that are the image of a mention which was redirected to them. Nothing here depends on how the input was cut into
parts: of several captures of one url one is chosen by content, captions are a sorted set.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from curation.pool import captures
from curation.pool.redirects import ADRIFT, Followed
from curation.pool.store import FETCHED
from curation.stage import Verdicts
from curation.table import captions, robots, schemas
from curation.table.arrow import whole
from curation.table.coded import Coded
from pipeline.errors import DataError, one_line

VERSION = 2  # raise it when other pairs would come out of the same parts
POOL = "pool"
"""The name under which the join is reported: the first stage of every recipe."""
_NO_IMAGE = {"sha256": "", "part": "", "offset": 0, "size": 0, "ext": "", "status": 0, "problem": ""}


def join_rows(
    occurrences: Sequence[pa.Table], images: Sequence[pa.Table], followed: Followed, where: str
) -> tuple[pa.Table, Verdicts]:
    """PAIRS of the uids of all rows, sorted by uid, and the verdicts of the stage "pool" on them:

    image_missing  no answer to the image's url is in the input
    redirect_lost  it was redirected to where no answer is in the input (detail: the address)
    redirect_loop  it was redirected more than HOPS times (detail: the last address)
    revisit_lost   its capture is a revisit of one that is not in the input (detail: the address)
    http_error     an answer, but not a 2xx (detail: the status)
    <problem>      a 2xx whose body is of no use: one of schemas.PROBLEMS (detail: the content type)
    no_caption     an image that no text speaks of

    A redirected mention is the pair of its own uid and url, with what the last address answered; the two last reasons
    speak of that then. An image that only redirects lead to is no pair besides.

    The rows may come in any number of tables and any order, texts as dictionaries; `where` names them in errors.
    """
    said, answered = captures.coded(occurrences, schemas.OCCURRENCES), captures.coded(images, schemas.IMAGES)
    best = captures.best_images(answered)
    stored = answered.table.filter(_is_of_its_own(answered)).column("uid")
    stored = stored.filter(pc.invert(pc.is_in(stored, followed.reached)))
    uids = pc.unique(pa.chunked_array([*said.table.column("uid").chunks, *stored.chunks], pa.string()))
    uids = uids.take(pc.sort_indices(uids))
    answers = _Answers.of(uids, answered, best, followed)
    try:
        pairs = _assemble(uids, answers, said)
    except pa.ArrowInvalid as error:  # 32-bit offsets
        found, hint = f"more than 2 GiB of captions: {one_line(error)}", "give `curate.buckets` a larger power of two"
        raise DataError(where, found, "at most 2 GiB a bucket", hint) from error
    return pairs, _verdicts(pairs, answers)


def _is_of_its_own(images: Coded) -> pa.ChunkedArray:
    """Which rows are images even where nobody mentions them: stored ones, but for those that were downloaded, which
    another job may have mentioned."""
    downloaded = images.where("part", pc.starts_with(images.words["part"], FETCHED))
    return pc.and_(pc.is_valid(images.table.column("size")), pc.invert(downloaded))


def _captions(occurrences: Coded, uids: pa.Array) -> pa.ListArray:
    """Per uid the distinct (text, source), by source priority, then text; blank texts are no captions."""
    spoken = pc.not_equal(pc.utf8_trim_whitespace(occurrences.words["text"]), "")
    said = occurrences.filter(occurrences.where("text", spoken))
    order = pc.index_in(said.words["source"], pa.array(schemas.SOURCE_ORDER, pa.large_string()))
    table = said.table.append_column("rank", said.where("source", pc.fill_null(order, len(schemas.SOURCE_ORDER))))
    table = table.sort_by([(name, "ascending") for name in ("uid", "rank", "source", "text", "page_url", "language")])
    heard = captures.united(said, ["uid", "text", "source"], "page_robots")
    table = table.filter(pa.array(captures.starts(*(table.column(name) for name in ("uid", "source", "text")))))
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


@dataclass(frozen=True)
class _Answers:
    """Row by row what is known of the image of a uid: the best capture of its url, or what that redirects to."""

    own: pa.Table  # rows of `images` (ranks), all null where there is none
    images: Coded
    led: pa.Table  # rows of FOUND, all null where there was no redirect

    @classmethod
    def of(cls, uids: pa.Array, images: Coded, best: pa.Table, followed: Followed) -> "_Answers":
        led = followed.found.take(pc.index_in(uids, followed.found.column("origin")))
        return cls(best.take(pc.index_in(uids, best.column("uid"))), images, led.combine_chunks())

    def column(self, name: str) -> pa.Array:
        """A column of IMAGES; no image, no value."""
        kind, none = schemas.IMAGES.field(name).type, _NO_IMAGE.get(name, "")
        own = pc.fill_null(self.images.text(name, self.own), none).cast(kind)
        return pc.if_else(self.is_led(), pc.fill_null(whole(self.led.column(name)), none), own)

    def is_led(self) -> pa.Array:
        return whole(pc.is_valid(self.led.column("origin")))

    def is_missing(self) -> pa.Array:
        return whole(pc.is_null(self.own.column("uid")))

    def robots(self, uids: pa.Array) -> pa.Array:
        """What all captures of the url ask for, and those of every url that it redirects to."""
        tags = captures.united(self.images, ["uid"], "x_robots_tag")
        hops = self.led.column("x_robots_tags").to_pylist()
        return pa.array(
            [tags.get((uid,), "") if led is None else robots.joined(led, sort=True)[0]
             for uid, led in zip(uids.to_pylist(), hops, strict=True)], pa.string(),
        )  # fmt: skip


def _assemble(uids: pa.Array, answers: _Answers, occurrences: Coded) -> pa.Table:
    image = answers.column
    extra, sha256 = image("extra"), image("sha256")
    mentioned = _first_text(uids, occurrences, "extra")
    columns = {
        "uid": uids,
        "url": _smaller(_first_text(uids, occurrences, "url"), _first_text(uids, answers.images, "url")),
        "image_sha256": sha256,
        "image_part": pc.if_else(pc.equal(sha256, ""), "", image("part")),
        "image_offset": image("offset"),
        "image_size": image("size"),
        "image_ext": image("ext"),
        "image_stored": image("stored"),
        "status": image("status"),
        "content_type": image("content_type"),
        "x_robots_tag": answers.robots(uids),
        "fetched_at": image("fetched_at"),
        "captions": _captions(occurrences, uids),
        "extra": pc.if_else(pc.equal(extra, ""), mentioned, extra),
    }
    return pa.table([columns[name] for name in schemas.PAIRS.names], schema=schemas.PAIRS).combine_chunks()


def _verdicts(pairs: pa.Table, answers: _Answers) -> Verdicts:
    status, problem = pairs.column("status"), answers.column("problem")
    adrift = pc.is_in(problem, pa.array(ADRIFT))
    unfit = pc.not_equal(problem, "")
    refused = pc.or_(pc.less(status, 200), pc.greater_equal(status, 300))
    silent = pc.equal(pc.list_value_length(pairs.column("captions")), 0)
    reason = pc.case_when(
        pc.make_struct(answers.is_missing(), unfit, refused, silent),
        "image_missing",
        problem,
        "http_error",
        "no_caption",
    )
    detail = pc.case_when(
        pc.make_struct(answers.is_missing(), adrift, unfit, refused),
        pa.scalar(None, pa.string()),
        answers.led.column("url"),
        pairs.column("content_type"),
        pc.cast(status, pa.string()),
    )
    return Verdicts(reason=reason, detail=detail)
