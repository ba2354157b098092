"""The three tables of curation as pyarrow schemas, and the identity of a pair.

OCCURRENCES  one row per mention of an image: an <img> in a page, a row of a url+text table
IMAGES       one row per answer to an image url (or per stored image of a shard); its bytes lie in the pool
PAIRS        one row per uid after the join; stages add columns to it, or fields to its captions

A mention that was redirected, or whose capture is a revisit, is a pair of its own uid and url with the image of its
target (curation/README.md, Redirects and revisits).

A text column is never null: unknown is "". Uids decide everything about place: a bucket is a contiguous range of
uids, so sorted buckets laid end to end are the whole in uid order, whatever the number of buckets.
"""

import pyarrow as pa

VERSION = 2
"""Of these tables. Raise it when a column comes or goes: what a pool holds is then read anew."""
_TEXT = pa.string()


def _text(name: str) -> pa.Field:
    return pa.field(name, _TEXT, nullable=False)


OCCURRENCES = pa.schema(
    [
        _text("url"),  # canonical absolute url of the image; "" for a stored image without one
        _text("uid"),  # 32 hex
        _text("text"),  # as found, not cleaned
        _text("source"),  # where the text stood: one of SOURCE_ORDER, or another word
        _text("page_url"),
        _text("page_robots"),  # tokens of the page's X-Robots-Tag headers and meta robots, joined by ", "; "" if none
        _text("language"),  # html lang as written, or ""
        _text("extra"),  # a JSON object of input fields clipmill does not know, or ""
    ]
)

IMAGES = pa.schema(
    [
        _text("url"),
        _text("uid"),
        pa.field("status", pa.int32(), nullable=False),  # HTTP status; 200 for an image stored in a shard; 0: not known
        _text("content_type"),  # as the server said
        _text("ext"),  # by magic bytes (pipeline/images/formats.py); "" when the body is no image
        pa.field("sha256", _TEXT),  # 64 hex of the body; null when no bytes are kept
        _text("part"),  # the part whose images.tar holds the bytes
        pa.field("offset", pa.int64()),  # first byte in that images.tar; null when no bytes are kept
        pa.field("size", pa.int64()),  # bytes, as found; null when no bytes are kept
        _text("x_robots_tag"),  # all X-Robots-Tag headers of the image, joined by ", "
        _text("fetched_at"),  # ISO 8601 as the record says, or ""
        _text("extra"),
        _text("location"),  # the canonical url that the answer redirects to, or that a revisit refers to, or ""
        _text("payload"),  # 16 hex naming the payload digest of a stored image, or of what a revisit is equal to, or ""
        _text("problem"),  # of PROBLEMS, why the body of a 2xx is not kept; "" when it is kept, or not a 2xx
        _text("stored"),  # what was kept in place of the body (curation/table/stored.py); "" when that was
    ]
)

# What a source finds wrong with an answer; the words under which its part counts bad bodies and bad records. Those of
# the last three lines are of downloads: no answer, not asked, and what the owner asked to keep out.
REVISIT = "revisit"  # a capture without bytes, since they are those of another one: which is looked for
PROBLEMS = (
    "empty", "not_image", "truncated", "short_body", "partial", "too_big", "bad_encoding", "unknown_encoding",
    "bad_http", "damaged_record", REVISIT,
    "timeout", "dns", "connect", "tls",
    "private_address", "port", "not_http", "robots_txt", "robots_unreachable",
    "noai", "noimageai", "none", "noindex", "noimageindex",
)  # fmt: skip

BAD = "bad_records:"
"""How the names of a source's counts begin that are of records that make no pair; a reason follows."""

# One caption inside PAIRS.captions; stages append fields of their own behind these.
CAPTION_FIELDS = (
    _text("text"),
    _text("source"),
    _text("page_url"),  # the smallest page url that carried this (text, source)
    _text("page_robots"),  # the union over all pages that carried it, sorted: an opt-out of any page is seen
    _text("language"),  # of the page named by page_url
)
CAPTION = pa.struct(CAPTION_FIELDS)
CAPTIONS = pa.list_(pa.field("item", CAPTION))

PAIRS = pa.schema(
    [
        _text("uid"),
        _text("url"),  # as it was mentioned
        _text("image_sha256"),
        _text("image_part"),
        pa.field("image_offset", pa.int64(), nullable=False),
        pa.field("image_size", pa.int64(), nullable=False),
        _text("image_ext"),
        _text("image_stored"),  # what lies there in its place (curation/table/stored.py), or ""
        pa.field("status", pa.int32(), nullable=False),
        _text("content_type"),
        _text("x_robots_tag"),  # the union over every capture of the image url and of those it redirects to, sorted
        _text("fetched_at"),
        pa.field("captions", CAPTIONS, nullable=False),
        _text("extra"),
    ]
)

# Which text speaks first for an image; an unknown source comes after these, in alphabetical order.
SOURCE_ORDER = ("alt", "caption", "figcaption", "title", "aria-label", "link")


def empty(schema: pa.Schema) -> pa.Table:
    return schema.empty_table()
