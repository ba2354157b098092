"""The pictures: kept pairs, dropped pairs by reason, groups of copies. Fits them into the report's size limit."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.report.curated.funnel import Drop, Funnel, examples_of
from pipeline.report.curated.thumbs import Album, Frame, Picture
from pipeline.report.figures import place, plain, words_of
from pipeline.report.limits import Limits
from pipeline.report.schemas import Example, Summary

_UID = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class Tile:
    frame: Frame
    caption: str
    alt: str
    detail: str
    uid: str
    url: str
    tag: str = ""  # "kept", or why it went

    @property
    def picture(self) -> Picture | None:
        return self.frame.picture

    @property
    def has_picture(self) -> bool:
        """Whether there is one, shown or left off."""
        return self.frame.picture is not None or self.frame.is_left_off


@dataclass(frozen=True)
class DropGroup:
    drop: Drop
    tiles: tuple[Tile, ...]

    @property
    def pictured(self) -> bool:
        return any(tile.has_picture for tile in self.tiles)


@dataclass(frozen=True)
class CopyGroup:
    stage: str
    reason: str
    survivor: Tile
    removed: tuple[Tile, ...]
    more: int  # removed copies that are not shown


@dataclass(frozen=True)
class Gallery:
    kept: tuple[Tile, ...]
    dropped: tuple[DropGroup, ...]
    copies: tuple[CopyGroup, ...]
    more: int  # reasons with examples that are not shown


def build_gallery(summary: Summary, funnel: Funnel, album: Album, limits: Limits) -> Gallery:
    kept = tuple(tile(each, album, at) for at, each in enumerate(summary.kept_examples[: limits.kept]))
    reasons = funnel.by_reason()
    dropped = tuple(
        DropGroup(drop, tiles(examples_of(summary, drop), album, limits.tiles)) for drop in reasons[: limits.drops]
    )
    dropped = tuple(group for group in dropped if group.tiles)
    shown = {id(group.drop) for group in dropped}
    more = sum(1 for drop in reasons if id(drop) not in shown and examples_of(summary, drop))
    return Gallery(kept, dropped, _copies(summary, album, limits), more)


def _copies(summary: Summary, album: Album, limits: Limits) -> tuple[CopyGroup, ...]:
    found: list[CopyGroup] = []
    seen: Counter[str] = Counter()
    for group in summary.duplicate_groups:
        stage, _, reason = group.reason.partition(".")
        seen[stage] += 1
        if seen[stage] > limits.copies or len(found) >= limits.steps:
            continue
        removed = tiles(group.removed, album, limits.tiles // 2 or 1, seen[stage])
        more = max(group.count, len(group.removed)) - len(removed)
        survivor = tile(group.survivor, album, seen[stage])
        found.append(CopyGroup(words_of(plain(stage)), words_of(plain(reason)), survivor, removed, more))
    return tuple(found)


def tiles(examples: Sequence[Example], album: Album, most: int, rank: int = 0) -> tuple[Tile, ...]:
    """The first `most`; `rank`: how late the first of them is served with a picture."""
    return tuple(tile(each, album, rank + at) for at, each in enumerate(examples[:most]))


def tile(example: Example, album: Album, rank: int = 0, tag: str = "") -> Tile:
    caption = plain(example.caption, 500)
    alt = plain(caption, 200) or "image without a caption"
    frame, address = album.frame(example.thumb, rank), plain(place(example.url), 300)
    return Tile(frame, caption, alt, _detail(example), plain(example.uid, 64), address, tag)


def _detail(example: Example) -> str:
    """What the stage noted, unless the tile says it already; a survivor's uid is cut to what an eye can compare."""
    detail = example.detail or ""
    if _UID.fullmatch(detail):
        return f"copy of {detail[:8]}"
    return "" if detail == example.caption else detail
