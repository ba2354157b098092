"""Which columns of a table hold url, captions, uid and image: named by settings, or known by their names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curation.sources.captions import CAPTION_FIELDS
from curation.table.urls import resolve
from pipeline.errors import ClipmillError, DataError

_URLS = ("url", "image_url", "img_url")  # without regard to case, as all names that are known by themselves
_IMAGES = ("jpg", "jpeg", "png", "webp", "image", "img", "image_bytes")
_CAPTIONS = {name.lower(): source for name, source in CAPTION_FIELDS.items()}
_SHOWN = 40  # columns in a message


@dataclass(frozen=True)
class Names:
    """What the settings say: None is told by the names of the columns. captions: column -> source of its texts."""

    url: str | None = None
    captions: Mapping[str, str] | None = None
    uid: str | None = None  # "" for none
    image: str | None = None  # "" for none


@dataclass(frozen=True)
class Layout:
    """captions: (column, source). known: columns that are no further fields of a row. url, uid, image: "" for none."""

    url: str
    captions: tuple[tuple[str, str], ...]
    uid: str
    known: frozenset[str] = field(default_factory=frozenset)
    image: str = ""


class Unknown(Exception):
    """The columns do not tell. setting: which setting would."""

    def __init__(self, setting: str, found: str, expected: str) -> None:
        super().__init__(setting, found, expected)
        self.setting, self.found, self.expected = setting, found, expected

    def error(self, where: str) -> ClipmillError:
        """It as the error of the file `where`."""
        hint = f"set `{self.setting}` of this source, or take the file out of `paths`"
        return DataError(where, self.found, self.expected, hint)


def layout_of(columns: Sequence[str], names: Names, of_bytes: Sequence[str] = ()) -> Layout:
    """`of_bytes`: the columns that may hold images; a table that holds them needs no urls. Raises Unknown naming the
    columns when one that is needed is not there, or stands there twice."""
    twice = sorted({name for name in columns if columns.count(name) > 1}) if len(set(columns)) < len(columns) else []
    if twice:
        raise Unknown("header", f"the column {shown(twice)} twice among {shown(columns)}", "each column once")
    image = _image(columns, names.image, of_bytes)
    urls = [name for name in columns if name.lower() in _URLS]
    url = names.url or (_only(urls, columns) if urls or not image else "")
    captions = names.captions
    if captions is None:
        captions = _captions(columns, url)
        if not captions:
            expected = f"a caption column ({', '.join(_CAPTIONS)}), or captions=[] for none"
            raise Unknown("captions", f"columns {shown(columns)}", expected)
    uid = next((name for name in columns if name.lower() == "uid"), "") if names.uid is None else names.uid
    wanted = {"url": [url] if url else [], "captions": list(captions), "uid": [uid] if uid else []}
    for setting, asked in wanted.items():
        missing = [name for name in asked if name not in columns]
        if missing:
            raise Unknown(setting, f"columns {shown(columns)}", f"also {shown(missing)}, which `{setting}` names")
    return Layout(url, tuple(captions.items()), uid, frozenset({url, uid, image, *captions} - {""}), image)


def layout_of_row(columns: Sequence[str], names: Names) -> Layout | str:
    """Of one row that names its own columns: what it lacks is empty. The reason when its url is not told."""
    urls = [name for name in columns if name == names.url or names.url is None and name.lower() in _URLS]
    if len(urls) != 1:
        return "two_urls" if urls else "no_url"
    captions = _captions(columns, urls[0]) if names.captions is None else names.captions
    there = {name: source for name, source in captions.items() if name in columns}
    uid = names.uid if names.uid is None or names.uid in columns else ""
    return layout_of(columns, Names(urls[0], there, uid))


def _image(columns: Sequence[str], named: str | None, of_bytes: Sequence[str]) -> str:
    found = [name for name in of_bytes if name.lower() in _IMAGES] if named is None else [named] if named else []
    if len(found) > 1:
        raise Unknown("image", f"{len(found)} columns of images, {shown(found)}", "which one, or image='' for none")
    if found and found[0] not in of_bytes:
        raise Unknown("image", f"columns {shown(columns)}", f"{found[0]!r} in a parquet table, of bytes")
    return found[0] if found else ""


def _captions(columns: Sequence[str], url: str) -> dict[str, str]:
    return {name: _CAPTIONS[name.lower()] for name in columns if name.lower() in _CAPTIONS and name != url}


def _only(found: Sequence[str], columns: Sequence[str]) -> str:
    if len(found) != 1:
        which = f"{len(found)} columns of urls, {shown(found)}" if found else f"columns {shown(columns)}"
        raise Unknown("url", which, f"one column of urls ({', '.join(_URLS)})")
    return found[0]


def has_header(first: Sequence[str], names: Names) -> bool:
    """Whether the first row of a text table names the columns: one says url, or one that the settings name."""
    named = {names.url, names.uid, *(names.captions or ())} - {None, ""}
    return any(name in named or name.lower() in _URLS for name in first) or not any(map(is_url, first))


def without_header(rows: Sequence[Sequence[str]], names: Names) -> list[str]:
    """Names of the columns of a table without a header, told by its first rows: that of urls is `url`; where there are
    two columns the other one is `caption`; all others are called by their number, from 0."""
    width = max((len(row) for row in rows), default=0)
    columns = [str(at) for at in range(width)]
    if names.url is not None:
        return columns
    urls = [sum(len(row) > at and is_url(row[at]) for row in rows) for at in range(width)]
    best = max(urls, default=0)
    if not best or urls.count(best) > 1:
        raise Unknown("header", f"no header, and {urls.count(best) if best else 0} columns of urls in "
                      f"{shown(rows[0] if rows else [])}", "a header, or its names in `header`")  # fmt: skip
    columns[urls.index(best)] = "url"
    if width == 2 and names.captions is None:
        columns[1 - urls.index(best)] = "caption"
    return columns


def is_url(text: Any) -> bool:
    return isinstance(text, str) and not resolve("", text)[1]


def shown(columns: Sequence[str]) -> str:
    """The columns for a message, as many as can be read."""
    words = ", ".join(repr(name[:60]) for name in columns[:_SHOWN])
    return (words or "none") + (f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else "")
