"""The pictures: kept pairs, dropped pairs by reason, groups of copies. Fits them into the report's size limit."""

import re
from dataclasses import dataclass

from pipeline.report.figures import place, plain, words_of
from pipeline.report.funnel import Drop, Funnel, examples_of
from pipeline.report.schemas import Example, Summary
from pipeline.report.thumbs import Album, Picture

KEPT_BYTES, DROPPED_BYTES, COPIES_BYTES = 1_500_000, 2_500_000, 1_500_000  # of data URIs in each section
MAX_REASONS, MAX_EXAMPLES = 40, 12
MAX_GROUPS, MAX_REMOVED = 24, 6
MAX_KEPT = 60
_UID = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class Tile:
    picture: Picture | None
    caption: str
    alt: str
    detail: str
    uid: str
    url: str


@dataclass(frozen=True)
class DropGroup:
    drop: Drop
    tiles: tuple[Tile, ...]

    @property
    def pictured(self) -> bool:
        return any(tile.picture for tile in self.tiles)


@dataclass(frozen=True)
class CopyGroup:
    stage: str
    reason: str
    survivor: Tile
    removed: tuple[Tile, ...]


@dataclass(frozen=True)
class Gallery:
    kept: tuple[Tile, ...]
    dropped: tuple[DropGroup, ...]
    copies: tuple[CopyGroup, ...]


def build_gallery(summary: Summary, funnel: Funnel) -> Gallery:
    album = Album(KEPT_BYTES)
    kept = tuple(_tile(example, album) for example in summary.kept_examples[:MAX_KEPT])
    album = Album(DROPPED_BYTES)
    dropped = tuple(DropGroup(drop, _tiles(summary, drop, album)) for drop in funnel.by_reason()[:MAX_REASONS])
    album = Album(COPIES_BYTES)
    copies = tuple(
        CopyGroup(
            words_of(plain(group.reason.partition(".")[0])),
            words_of(plain(group.reason.partition(".")[2])),
            _tile(group.survivor, album),
            tuple(_tile(example, album) for example in group.removed[:MAX_REMOVED]),
        )
        for group in summary.duplicate_groups[:MAX_GROUPS]
    )
    return Gallery(kept, tuple(group for group in dropped if group.tiles), copies)


def _tiles(summary: Summary, drop: Drop, album: Album) -> tuple[Tile, ...]:
    return tuple(_tile(example, album) for example in examples_of(summary, drop)[:MAX_EXAMPLES])


def _tile(example: Example, album: Album) -> Tile:
    picture = album.picture(example.thumb)
    caption = example.caption or ""
    alt = plain(caption, 200) or "image without a caption"
    return Tile(picture, caption, alt, _detail(example), plain(example.uid, 64), plain(place(example.url), 300))


def _detail(example: Example) -> str:
    """What the stage noted, unless the tile says it already; a survivor's uid is cut to what an eye can compare."""
    detail = example.detail or ""
    if _UID.fullmatch(detail):
        return f"copy of {detail[:8]}"
    return "" if detail == example.caption else detail
