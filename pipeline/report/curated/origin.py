"""Where pairs came from: sources and what they counted, and what came of the download, by reason and class of host."""

from dataclasses import dataclass

from pipeline.report.curated.curation import Inputs, counted_rows
from pipeline.report.figures import words_of
from pipeline.report.limits import Limits
from pipeline.report.schemas import Download, InputPart, Summary

_FAILED = "failed:"


@dataclass(frozen=True)
class Outcome:
    label: str
    count: int
    was_asked: bool = True


@dataclass(frozen=True)
class HostRow:
    label: str
    urls: int
    had: int
    reasons: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Downloaded:
    """urls: wanted; had: images and redirects; asked: urls but those that nobody was asked for."""

    urls: int
    had: int
    asked: int
    bytes: int
    passing: int
    outcomes: tuple[Outcome, ...]
    hosts: tuple[HostRow, ...]


def downloaded(download: Download, limits: Limits) -> Downloaded:
    counts = download.counts
    reasons = _reasons(counts)
    outcomes = [Outcome("images", counts.get("images_stored", 0)), Outcome("redirects", counts.get("redirects", 0))]
    outcomes += [Outcome(words_of(name), n, name not in download.not_asked) for name, n in reasons]
    skipped = sum(n for name, n in reasons if name in download.not_asked)
    hosts = sorted(download.hosts.items(), key=lambda item: (-item[1].get("urls", 0), item[0]))
    rows = [
        HostRow(kind, mine.get("urls", 0), _had(mine), tuple((words_of(name), n) for name, n in _reasons(mine)[:4]))
        for kind, mine in hosts[: limits.rows]
    ]
    urls, shown = counts.get("urls", 0), [each for each in outcomes if each.count][: limits.rows]
    return Downloaded(urls, _had(counts), urls - skipped, download.bytes, download.passing, tuple(shown), tuple(rows))


def _had(counts: dict[str, int]) -> int:
    return counts.get("images_stored", 0) + counts.get("redirects", 0)


def _reasons(counts: dict[str, int]) -> list[tuple[str, int]]:
    found = [(name.removeprefix(_FAILED), n) for name, n in counts.items() if name.startswith(_FAILED) and n]
    return sorted(found, key=lambda item: (-item[1], item[0]))


def sources(summary: Summary, limits: Limits) -> Inputs | None:
    """A row for each source of the recipe."""
    rows = [
        InputPart(
            part=f"{at}", path=each.kind, digest="", bytes=each.bytes, counts={"files": each.parts, **each.counts}
        )
        for at, each in enumerate(summary.sources)
    ]
    return counted_rows(rows, limits.inputs) if rows else None
