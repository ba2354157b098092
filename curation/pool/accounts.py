"""What was asked of a server and what it cost, each attempt counted once however often and wherever a run is cut off.

    <columns folder>/accounts/<token>.json   {"turn", "by", "tally"}: of a process, without what its journals of this
                                             turn and later ones say themselves
                             /<token>.json   {"of": [tokens], "tally"}: of several processes that have ended

A journal (journal.py) has a line {"sent", "sample", "try", "most"} before each attempt, `most` being [tokens in, tokens
out] at most, and behind it one that closes it: {"failed": try, "why", "may_cost"}, or {"key", "sample", "answer",
"try"}, with "estimate": [tokens in, tokens out] where the server did not count. A give-up is both. An attempt that
nothing closes was sent, and may have been answered and billed. Numbers of tries are of one process. A file here is
published before the journals or files that it tells of are removed: whoever reads both takes but one of them.
"""

import secrets
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from curation.pool import journal
from pipeline import storage
from pipeline.errors import StorageError
from pipeline.log import get_logger

log = get_logger("curation")
FOLDER = "accounts"
CUT_OFF = "cut_off"
"""Why nothing is known of an attempt that was under way when its process ended."""


@dataclass
class Tally:
    """finished: requests with an answer, or given up. Attempts: answered; failed, which cost nothing, or (answers of no
    use) are among `answers`; unknown, which may have been billed, with the most tokens of each. answers: of the server,
    whatever became of them; tokens: as it counted them, for `estimated` of them as we do."""

    finished: int = 0
    answers: int = 0
    answered: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    estimated: int = 0
    estimated_in: int = 0
    estimated_out: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)
    unknown_in: int = 0
    unknown_out: int = 0

    @property
    def attempts(self) -> int:
        return self.answered + sum(self.failed.values()) + sum(self.unknown.values())

    def plus(self, other: "Tally", sign: int = 1) -> "Tally":
        made: dict[str, Any] = {}
        for each in fields(self):
            mine, its = getattr(self, each.name), getattr(other, each.name)
            if isinstance(mine, dict):
                both = {name: mine.get(name, 0) + sign * its.get(name, 0) for name in sorted({*mine, *its})}
                made[each.name] = {name: number for name, number in both.items() if number}
            else:
                made[each.name] = mine + sign * its
        return Tally(**made)

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def tally_of(plain: Mapping[str, Any]) -> Tally:
    return Tally(**{each.name: plain[each.name] for each in fields(Tally) if each.name in plain})


class Lines:
    """What the lines of one process come to, in their order; a line may come twice."""

    def __init__(self) -> None:
        self._closed, self._failed, self._unknown = Tally(), Counter[str](), Counter[str]()
        self._open: dict[int, dict[str, Any]] = {}

    def read(self, lines: Iterable[Mapping[str, Any]]) -> "Lines":
        for line in lines:
            if "try" in line and "sent" in line:
                self._open[line["try"]] = dict(line)
            elif "failed" in line:
                self._close(line["failed"], line["why"], line["may_cost"])
            elif "try" in line and "answer" in line:
                self._closed.finished += 1
                if self._open.pop(line["try"], None) is not None:  # else it was given up
                    self._answered(line["answer"], line.get("estimate"))
        return self

    def _close(self, number: int, why: str, may_cost: bool) -> None:
        sent = self._open.pop(number, None)
        if sent is None:
            return
        if may_cost:
            self._unknown[why] += 1
            self._closed.unknown_in += sent["most"][0]
            self._closed.unknown_out += sent["most"][1]
        else:
            self._failed[why] += 1

    def _answered(self, answer: Mapping[str, Any], estimate: list[int] | None) -> None:
        closed = self._closed
        closed.answers += 1
        if answer["failed"]:
            self._failed[answer["failed"]] += 1
        else:
            closed.answered += 1
        if estimate is None:
            closed.tokens_in += answer["tokens_in"]
            closed.tokens_out += answer["tokens_out"]
        else:
            closed.estimated += 1
            closed.estimated_in += estimate[0]
            closed.estimated_out += estimate[1]

    def under_way(self) -> list[dict[str, Any]]:
        """Lines of attempts that nothing closes."""
        return list(self._open.values())

    def closed(self) -> Tally:
        return self._closed.plus(Tally(failed=dict(self._failed), unknown=dict(self._unknown)))

    def whole(self) -> Tally:
        """With those under way as lost."""
        most = [each["most"] for each in self._open.values()]
        lost = {CUT_OFF: len(most)} if most else {}
        found = Tally(unknown=lost, unknown_in=sum(a for a, _ in most), unknown_out=sum(b for _, b in most))
        return self.closed().plus(found)


def publish(columns: str, token: str, turn: int, by: str, tally: Tally) -> None:
    """Of a process; its journals of earlier turns may be removed then."""
    _publish(columns, token, {"turn": turn, "by": by, "tally": tally.plain()})


def total(columns: str, by: str | None = None) -> Tally:
    """Of all processes, or those that worked on one behalf."""
    return _sum(each for whose, each in _each(columns).values() if by in (None, whose))


def settle(columns: str, ended: Collection[str]) -> None:
    """Of processes that have ended one file is left, and no journal."""
    found, books, names = _each(columns), _books(columns), journal.names(columns)
    old = {token for token, book in books.items() if "of" in book}
    counted = {token for token in {*ended, *old} if token in found}
    left = {*books, *map(journal.token_of, names)}
    named = {*counted, *({token for book in books.values() for token in book.get("of", ())} & left)}
    if counted - old or len(counted) > 1:
        whole = _sum(found[token][1] for token in sorted(counted))
        _publish(columns, secrets.token_hex(8), {"of": sorted(named), "tally": whole.plain()})
    else:
        named -= counted
    for name in names:
        if journal.token_of(name) in named:
            journal.remove(columns, name)
    for token in books:
        if token in named:
            storage.remove(_url(columns, token))


def _each(columns: str) -> dict[str, tuple[str, Tally]]:
    """Token -> on whose behalf, and what it comes to; without those that stand in another one's file."""
    names = journal.names(columns)  # before the books: what is removed meanwhile stands in those
    lines: dict[str, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    for name in sorted(names):
        lines[journal.token_of(name)] += [(journal.turn_of(name), line) for line in journal.lines_of(columns, name)]
    books = _books(columns)
    told = {token for book in books.values() for token in book.get("of", ())}
    found = {}
    for token in sorted({*books, *lines} - told):
        book = books.get(token, {})
        mine = [line for turn, line in lines.get(token, ()) if turn >= book.get("turn", 0)]
        by = book.get("by") or next((line[journal.BY] for line in mine if journal.BY in line), "")
        found[token] = by, tally_of(book.get("tally", {})).plus(Lines().read(mine).whole())
    return found


def _books(columns: str) -> dict[str, dict[str, Any]]:
    found = {}
    for name in storage.list_names(storage.join(columns, FOLDER)):
        url = storage.join(columns, FOLDER, name)
        try:
            book = storage.read_state(url, quiet=True)
        except StorageError:
            if storage.exists(url):
                raise
            continue  # by now it stands in another one
        if book is not None:
            found[name.removesuffix(".json")] = book
        elif storage.exists(url):
            log.warning("%s: damaged; what it counted is not in the figures of what was spent", storage.shown(url))
    return found


def _publish(columns: str, token: str, value: Mapping[str, Any]) -> None:
    storage.publish_state(_url(columns, token), value)


def _sum(tallies: Iterable[Tally]) -> Tally:
    whole = Tally()
    for each in tallies:
        whole = whole.plus(each)
    return whole


def _url(columns: str, token: str) -> str:
    return storage.join(columns, FOLDER, f"{token}.json")
