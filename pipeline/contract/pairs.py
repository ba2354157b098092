"""What a pair is: the unit both halves agree on, its key, its canonical metadata bytes and its checksum."""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.errors import DataError

FORMAT_VERSION = 1
INDEX = "index"  # the folder of the index files, beside the shards
EXTS = ("jpg", "png", "webp")
MAX_PER_NAME = 1_000_000  # shards in a dataset and pairs in a shard: names have six digits, so that they sort
MAX_MEMBER = 512 << 20  # bytes: a larger member is no picture, and no reader takes it into memory
MAX_META = 4 << 20  # bytes of a text or .json in a tar that others wrote
MAX_PAIR = 1 << 30  # bytes from a pair's first header to its end
_UID = re.compile(r"[0-9a-f]{32}")


class Column(NamedTuple):
    name: str
    type: str
    required: bool


# The fields of KEY.json; any other field passes through. The README's table is tested against this one.
META_COLUMNS = (
    Column("uid", "32 hex digits", True),
    Column("sha256", "64 hex digits", True),
    Column("width", "integer", True),
    Column("height", "integer", True),
    Column("captions", "list of captions", True),
    Column("negatives", "list of captions", False),
    Column("url", "string", False),
    Column("page_url", "string", False),
    Column("language", "string", False),
)
CAPTION_COLUMNS = (
    Column("text", "string", True),
    Column("source", "string", True),
    Column("score", "number", False),
    Column("model", "string", False),
    Column("prompt_version", "string", False),
    Column("of", "string", False),
)
NEGATIVE = "negative"
SYNTHETIC = ("caption", "rewrite", "translation")
"""What stands before the colon in the source of a caption that a model wrote: `caption:<name>`."""


@dataclass(frozen=True)
class Pair:
    """An image and its captions, of one source row.

    uid: 32 hex digits; image: the file's bytes; ext: of `EXTS`; meta: the contents of KEY.json (`META_COLUMNS`).
    """

    uid: str
    image: bytes
    ext: str
    meta: dict[str, Any]

    @property
    def text(self) -> str:
        """The default caption: the first."""
        return self.meta["captions"][0]["text"]


def is_synthetic(source: str) -> bool:
    """Whether a model wrote the captions of this source. (`caption` alone is a field of somebody's table.)"""
    head, colon, _ = source.partition(":")
    return bool(colon) and head in SYNTHETIC


def key_of(shard: int, row: int) -> str:
    """`000000-000042`: unique over the dataset, because it carries the shard."""
    if not (0 <= shard < MAX_PER_NAME and 0 <= row < MAX_PER_NAME):
        raise DataError(f"shard {shard}, row {row}", "number out of range", f"0 to {MAX_PER_NAME - 1} each")
    return f"{shard:06d}-{row:06d}"


def shard_name(shard: int) -> str:
    return f"shard-{key_of(shard, 0)[:6]}.tar"


def index_name(shard_file: str) -> str:
    """Where a shard's index lies, relative to the dataset: `shard-000000.tar` -> `index/shard-000000.parquet`."""
    return f"{INDEX}/{shard_file.removesuffix('.tar')}.parquet"


def meta_bytes(meta: dict[str, Any] | list[Any]) -> bytes:
    """Canonical JSON: sorted keys, no spaces, UTF-8. Raises ValueError for NaN, infinities and lone surrogates."""
    return json.dumps(meta, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


class _Twice(ValueError):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Twice
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def parse_meta(data: bytes) -> tuple[dict[str, Any], str]:
    """(the JSON object, "") or ({}, reason): dup_field, or bad_meta when it is none that can be written again."""
    try:
        meta = json.loads(data, parse_constant=_refuse, object_pairs_hook=_once)
        json.dumps(meta, ensure_ascii=False, allow_nan=False).encode()  # lone surrogates, 1e999
    except _Twice:
        return {}, "dup_field"
    except (ValueError, RecursionError):
        return {}, "bad_meta"
    return (meta, "") if isinstance(meta, dict) else ({}, "bad_meta")


def is_utf8(data: bytes) -> bool:
    """Whether the bytes are a text."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def row_checksum(image: bytes, text: bytes, meta: bytes) -> int:
    """64-bit BLAKE2b over the three members, each after its length (so that bytes cannot move between them)."""
    digest = hashlib.blake2b(digest_size=8)
    for part in (image, text, meta):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return int.from_bytes(digest.digest(), "little")


def check_pair(pair: Pair, where: str) -> None:
    """Raises DataError naming `where` when the pair is not one: what is written must be what is promised."""
    meta = pair.meta
    found = None
    if not (isinstance(pair.uid, str) and _UID.fullmatch(pair.uid)):
        found = f"uid {pair.uid!r}"
    elif meta.get("uid") != pair.uid:
        found = f"uid {meta.get('uid')!r} in the metadata of pair {pair.uid}"
    elif pair.ext not in EXTS:
        found = f"image of format {pair.ext!r}"
    elif not pair.image or meta.get("sha256") != hashlib.sha256(pair.image).hexdigest():
        found = f"sha256 {meta.get('sha256')!r} is not of the {len(pair.image)} image bytes"
    elif not all(type(meta.get(side)) is int and meta[side] > 0 for side in ("width", "height")):
        found = f"width {meta.get('width')!r}, height {meta.get('height')!r}"
    elif bad := captions_problem(meta.get("captions")) or negatives_problem(meta) or _bad_strings(meta):
        found = bad
    if found:
        raise DataError(where, found, "a pair as pipeline/contract/README.md says")


def captions_problem(captions: Any) -> str:
    """What keeps `captions` from being a list of captions, or "" when nothing does."""
    if not (isinstance(captions, list) and captions):
        return f"captions {captions!r}"
    for caption in captions:
        if not _is_caption(caption):
            return f"caption {caption!r}"
    return "" if captions[0]["text"] else "an empty default caption"


def negatives_problem(meta: dict[str, Any]) -> str:
    """What keeps `negatives` from being a list of captions, or "" when nothing does; they may be missing."""
    negatives = meta.get("negatives", [])
    if not isinstance(negatives, list):
        return f"negatives {negatives!r}"
    return next((f"negative {each!r}" for each in negatives if not (_is_caption(each) and each["text"])), "")


def _is_caption(caption: Any) -> bool:
    return isinstance(caption, dict) and all(isinstance(caption.get(name), str) for name in ("text", "source"))


def _bad_strings(meta: dict[str, Any]) -> str:
    for column in META_COLUMNS:
        if column.type == "string" and not isinstance(meta.get(column.name), str | None):
            return f"{column.name} {meta[column.name]!r}"
    return ""
