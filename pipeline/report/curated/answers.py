"""What models answered: what was dropped by which check, and pairs on their way through several models."""

from collections import defaultdict
from dataclasses import dataclass

from pipeline.report.curated.gallery import Tile, tile
from pipeline.report.curated.thumbs import Album
from pipeline.report.figures import plain, words_of
from pipeline.report.limits import Limits
from pipeline.report.schemas import Answer, Answered, Evidence, Summary


@dataclass(frozen=True)
class AnswerRow:
    tile: Tile
    caption: str
    asked: str
    answers: tuple[Answer, ...]
    more: int


@dataclass(frozen=True)
class Dropped:
    """Answers that one check has dropped."""

    reason: str
    rows: tuple[AnswerRow, ...]


@dataclass(frozen=True)
class Step:
    stage: str
    by: tuple[tuple[str, str], ...]  # source, model, prompt version
    row: AnswerRow
    reason: str


@dataclass(frozen=True)
class Way:
    """A pair, and what each model was told and said of it, one after the other."""

    tile: Tile
    steps: tuple[Step, ...]


def dropped(evidence: Evidence, album: Album, limits: Limits) -> tuple[Dropped, ...]:
    groups = [group for group in evidence.answers if group.reason]
    return tuple(
        Dropped(
            words_of(plain(group.reason, 60)),
            tuple(_row(each, album, at) for at, each in enumerate(group.examples[: limits.tiles // 2 or 1])),
        )
        for group in groups[: limits.groups]
    )


def ways(summary: Summary, album: Album, limits: Limits) -> list[Way]:
    """Pairs that several stages have asked about and that all of them show."""
    found: dict[str, list[tuple[Evidence, str, Answered]]] = defaultdict(list)
    for evidence in summary.evidence:
        seen = set()
        for group in sorted(evidence.answers, key=lambda each: each.reason):  # first the answers that are used
            for each in group.examples:
                if each.uid not in seen:
                    found[each.uid].append((evidence, group.reason, each))
                    seen.add(each.uid)
    several = sorted((uid for uid, steps in found.items() if len(steps) > 1), key=lambda uid: (-len(found[uid]), uid))
    made = []
    for at, uid in enumerate(several[: limits.changed]):
        steps = tuple(
            Step(evidence.stage, tuple(sorted(evidence.by.items())), _row(each, album, at, False), words_of(reason))
            for evidence, reason, each in found[uid][: limits.sections]
        )
        made.append(Way(tile(found[uid][0][2], album, at), steps))
    return made


def _row(each: Answered, album: Album, rank: int, with_picture: bool = True) -> AnswerRow:
    picture = tile(each if with_picture else each.model_copy(update={"thumb": None}), album, rank)
    return AnswerRow(picture, each.caption or "", each.asked, tuple(each.answers[:8]), each.more)
