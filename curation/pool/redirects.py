"""Redirects inside the input: an image url whose answer was 3xx gets the image that its `Location` leads to, and one
whose capture is a revisit that of the capture with the same payload, of the url that the revisit refers to.

    ask(mentions, images)       where the mentioned uids among some rows are led to, as ASKED
    step(images, asked, hop)    what is there: FOUND, or ASKED again
    ask_originals(found, ...)   revisits that led nowhere, to any capture of their payload (`originals`)

A redirect leads from one range of uids into another, so every hop is an exchange by uid: each row goes to where the
uid that it asks for lies, and what was found goes back to where the mention lies (curation/runner/redirects.py moves
them). Rows are as many as mentions were redirected.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from curation.pool import captures
from curation.table import schemas
from curation.table.coded import Coded
from curation.table.schemas import REVISIT
from curation.table.uids import uid_of_url

HOPS = 5
"""Redirects followed for one image; more are a loop, or as bad as one."""
LOST, LOOP, REVISIT_LOST = "redirect_lost", "redirect_loop", "revisit_lost"
ADRIFT = (LOST, LOOP, REVISIT_LOST)

_ROBOTS = pa.field("x_robots_tags", pa.list_(pa.string()))  # of every hop so far, the mentioned url's first
_STORED = ("ext", "sha256", "part", "offset", "size", "stored")
_ANSWER = ("status", "content_type", *_STORED, "fetched_at", "extra", "problem")
# at: the uid asked for; url: its address; payload: that its capture must have, or ""; origin: the uid mentioned.
ASKED = pa.schema([pa.field(name, pa.string()) for name in ("at", "url", "payload", "origin")]).append(_ROBOTS)
FOUND = pa.schema([*ASKED, *(pa.field(name, schemas.IMAGES.field(name).type) for name in _ANSWER)])


@dataclass(frozen=True)
class Followed:
    """What a bucket's join needs to know of redirects."""

    found: pa.Table  # FOUND: one row per mentioned uid of the bucket that was redirected
    reached: pa.Array  # uids of the bucket whose stored image is that of such a mention, in whatever bucket

    @classmethod
    def of(cls, found: list[pa.Table], reached: list[pa.Table]) -> "Followed":
        column = pa.concat_tables([REACHED.empty_table(), *reached]).column("uid")
        return cls(pa.concat_tables([FOUND.empty_table(), *found]).combine_chunks(), pc.unique(column))


REACHED = pa.schema([pa.field("uid", pa.string())])
LOST_PAYLOADS = pa.schema([pa.field("payload", pa.string())])
ORIGINALS = pa.schema([pa.field(name, pa.string()) for name in ("payload", "at", "url")])  # at: the uid of the url


def moved(images: Sequence[pa.Table]) -> pa.Array:
    """The uids, each once, that some of these rows of IMAGES redirect."""
    found = [_uids(table.filter(pc.not_equal(table.column("location"), ""))) for table in images]
    return pc.unique(pa.concat_tables([REACHED.empty_table(), *found]).column("uid")).sort()


def ask(mentions: Sequence[pa.Table], images: Sequence[pa.Table]) -> pa.Table:
    """ASKED: where the uids that OCCURRENCES mention, and that have a redirect and no stored image, are led to.

    `images`: what is known of them, all captures (IMAGES, texts as dictionaries; other rows besides are no matter).
    """
    candidates = moved(images)
    spoken = [_uids(table.filter(pc.is_in(table.column("uid"), candidates))) for table in mentions]
    return _asked_by(pc.unique(pa.concat_tables([REACHED.empty_table(), *spoken]).column("uid")).sort(), images)


def ask_revisits(images: Sequence[pa.Table]) -> pa.Table:
    """ASKED: where all uids that have a revisit, and no stored image, are led to, be they mentioned or not; `images` as
    `ask` takes them."""
    revisits = [table.filter(pc.equal(table.column("problem"), REVISIT)) for table in images]
    return _asked_by(moved(revisits), images)


def _asked_by(origins: pa.Array, images: Sequence[pa.Table]) -> pa.Table:
    none, unheard = pa.array([""] * len(origins), pa.string()), pa.array([[]] * len(origins), _ROBOTS.type)
    return step(images, pa.table([origins, none, none, origins, unheard], schema=ASKED), 0)["asked"]


def _uids(table: pa.Table) -> pa.Table:
    return pa.table([pc.unique(table.column("uid"))], schema=REACHED)


def step(images: Sequence[pa.Table], asked: pa.Table, hop: int) -> dict[str, pa.Table]:
    """`asked` for the next hop, `found` at this one, where the rows of `asked` are led by `hop` redirects, and the uids
    `reached`, whose stored image was found.

    Found is what is no redirect, what no answer is known of (problem LOST), and what is one redirect too many (LOOP);
    where a revisit led there, REVISIT_LOST in place of both.
    """
    rows = _looked_up(images, asked)
    told = zip(asked.column("x_robots_tags").to_pylist(), rows.column("tags").to_pylist(), strict=True)
    heard = pa.array([[*before, here] if here else before for before, here in told], _ROBOTS.type)
    leads = pc.not_equal(rows.column("location"), "")
    leads = pc.fill_null(pc.and_(pc.is_null(rows.column("size")), leads), False)
    lost, revisits = pc.is_null(rows.column("uid")), pc.fill_null(pc.equal(rows.column("problem"), REVISIT), False)
    wanted = pc.not_equal(asked.column("payload"), "")

    onward = pc.and_(leads, hop < HOPS)
    urls = rows.column("location").filter(onward)
    uids = pa.array(map(uid_of_url, urls.to_pylist()), pa.string())
    payloads = pc.if_else(revisits, rows.column("payload"), "").filter(onward)
    following = [uids, urls, payloads, asked.column("origin").filter(onward), heard.filter(onward)]

    columns = {name: rows.column(name) for name in _ANSWER}
    columns["problem"] = pc.case_when(
        pc.make_struct(pc.or_(pc.and_(lost, wanted), pc.and_(leads, revisits)), lost, leads),
        *(REVISIT_LOST, LOST, LOOP, columns["problem"]),
    )
    ended = [*(asked.column(name) for name in ("at", "url", "payload", "origin")), heard, *columns.values()]
    found = pa.table(ended, schema=FOUND).filter(pc.invert(onward))
    stored = found.filter(pc.is_valid(found.column("size"))).column("at")
    reached = pa.table([pc.unique(stored)], schema=REACHED)
    return {"asked": pa.table(following, schema=ASKED), "found": found, "reached": reached}


def lost(found: pa.Table) -> pa.Table:
    """The rows of FOUND of revisits whose capture is not where they say, and that say of which payload it is."""
    is_lost = pc.and_(pc.equal(found.column("problem"), REVISIT_LOST), pc.not_equal(found.column("payload"), ""))
    return found.filter(is_lost)


def originals(images: Sequence[pa.Table], payloads: pa.Array | pa.ChunkedArray) -> pa.Table:
    """ORIGINALS: the stored images that have one of these payloads, of each payload that with the smallest uid."""
    found = [ORIGINALS.empty_table()]
    for table in images:
        told = table.column("payload").cast(pa.string())
        rows = table.filter(pc.and_(pc.is_valid(table.column("size")), pc.is_in(told, payloads)))
        columns = [rows.column(name).cast(pa.string()) for name in ("payload", "uid", "url")]
        found.append(pa.table(columns, schema=ORIGINALS))
    return first_of(pa.concat_tables(found))


def first_of(rows: pa.Table) -> pa.Table:
    """Of ORIGINALS, each payload once."""
    rows = rows.sort_by([(name, "ascending") for name in ORIGINALS.names])
    return rows.filter(pa.array(captures.starts(rows.column("payload"))))


def ask_originals(found: pa.Table, known: pa.Table) -> pa.Table:
    """ASKED: where the `lost` ones among these rows of FOUND are led to by `known` ORIGINALS, each payload once."""
    rows = lost(found)
    places = pc.index_in(rows.column("payload"), known.column("payload").combine_chunks())
    rows, places = rows.filter(pc.is_valid(places)), places.drop_null()
    there = known.take(places)
    return pa.table(
        [there.column("at"), there.column("url"), *(rows.column(name) for name in ASKED.names[2:])], schema=ASKED
    )


def _looked_up(tables: Sequence[pa.Table], asked: pa.Table) -> pa.Table:
    """A row of IMAGES for each row of `asked`, the capture that counts, all null where none is known; and `tags`: what
    all captures of that uid ask for. Where a payload is asked for, only captures with an equal one count."""
    uids = pc.unique(asked.column("at"))
    images = captures.coded([table.filter(pc.is_in(table.column("uid"), uids)) for table in tables], schemas.IMAGES)
    best = images.plain(captures.best_images(images), schemas.IMAGES)
    best = pa.concat_tables([best, _alike(images, asked)])
    rows = best.take(
        pc.index_in(_key(asked.column("at"), asked.column("payload")), best.column("uid"))
    ).combine_chunks()
    tags = captures.united(images, ["uid"], "x_robots_tag")
    heard = pa.array([tags.get((uid,), "") for uid in asked.column("at").to_pylist()], pa.string())
    return rows.append_column("tags", heard)


def _alike(images: Coded, asked: pa.Table) -> pa.Table:
    """IMAGES of the captures with a payload that is asked for, the best of each, `uid` with the payload behind it. A
    revisit that refers to its own url is none: it has nothing that is not asked for already."""
    payloads = pc.unique(asked.column("payload"))
    rows = images.filter(images.where("payload", _is_one_of(images.words["payload"], payloads)))
    url, location = rows.text("url"), rows.text("location")
    rows = rows.filter(pc.or_(pc.is_valid(rows.table.column("size")), pc.not_equal(url, location)))
    keys = _key(rows.table.column("uid"), rows.text("payload").cast(pa.string()))
    rows = Coded(rows.table.set_column(rows.table.schema.get_field_index("uid"), "uid", keys), rows.words)
    return rows.plain(captures.best_images(rows), schemas.IMAGES)


def _is_one_of(words: pa.Array, payloads: pa.Array) -> pa.Array:
    return pc.and_(pc.not_equal(words, ""), pc.is_in(words, payloads.cast(pa.large_string())))


def _key(uid: pa.Array | pa.ChunkedArray, payload: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    """The uid, and a payload where there is one."""
    both = pc.binary_join_element_wise(uid, payload, " ")
    return pc.if_else(pc.equal(payload, ""), uid, both)
