"""Who is at fault, the server or a request: neither an outage nor a poisonous input is taken for the other."""

import asyncio
import time
from collections.abc import Callable

import pytest

from curation.generation.asking import Asking, Keeper, _wait_s
from curation.generation.backends.backend import Later
from curation.generation.limits import ENDLESS, Amount, LimitSettings, Purse, cost_of_tally
from curation.generation.request import Answer, Message, Request, Terms
from curation.pool.accounts import CUT_OFF, Lines
from pipeline.errors import Stopped


class Server:
    """Answers request n as `does(n, how often it was asked)` says: None, or a reason to come back for."""

    def __init__(self, does: Callable[[int, int], str | None], after_s: float | None = 0.0) -> None:
        self._does, self._after_s, self.asked = does, after_s, dict[int, int]()
        self.now = self.most = 0

    async def ask(self, request: Request) -> Answer:
        number = int(request.key)
        self.asked[number] = self.asked.get(number, 0) + 1
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.001)
        self.now -= 1
        reason = self._does(number, self.asked[number])
        if reason:
            raise Later(reason, self._after_s)
        return Answer(str(number), tokens_in=100, tokens_out=1)


def ask(server: Server, many: int, stopping=lambda: False, left: Amount = ENDLESS, **limits) -> dict[str, Answer]:
    async def run() -> dict[str, Answer]:
        async def requests():
            for number in range(many):
                yield Request((Message("user", "x"),), str(number))

        found: dict[str, Answer] = {}
        asked = LimitSettings(**({"in_flight": 16, "attempts": 3, "patience_s": 0.3} | limits))
        keeper = Keeper(lambda lines: None)
        purse = Purse(left, Terms("m", 10))
        asking = Asking(server, asked, 1.0, purse, keeper, lambda r, a: found.update({r.key: a}), stopping)
        await asking.run(requests())
        return found

    return asyncio.run(run())


def test_an_outage_uses_up_no_attempt():
    began = time.monotonic()
    server = Server(lambda number, times: "http_503" if time.monotonic() - began < 1.5 else None)
    found = ask(server, 40, patience_s=20.0)
    assert len(found) == 40 and not any(each.failed for each in found.values())
    assert max(server.asked.values()) > 3


@pytest.mark.parametrize("reason", ["timeout", "http_500", "half_an_answer"])
def test_a_request_that_never_works_is_given_up_however_silent_the_server_is_then(reason):
    found = ask(Server(lambda number, times: reason if number in (3, 7) else None), 20, attempts=4, patience_s=0.1)
    assert {key for key, each in found.items() if each.failed == reason and each.passing} == {"3", "7"}


@pytest.mark.parametrize("reason", ["timeout", "http_500", "no_connection", "http_429"])
def test_a_server_that_answers_nobody_ends_the_run(reason):
    with pytest.raises(Stopped, match=reason):
        ask(Server(lambda number, times: reason), 40, attempts=1000)


def test_one_that_is_refused_while_others_are_answered_is_given_up():
    found = ask(Server(lambda number, times: "http_502" if number == 0 else None), 4000, in_flight=4)
    assert found["0"].failed == "http_502" and len(found) == 4000


def test_a_full_server_is_asked_much_more_often_than_one_that_fails():
    server = Server(lambda number, times: "http_429" if number == 1 and times < 7 else None)
    assert not ask(server, 2000, in_flight=4, patience_s=60.0)["1"].failed


@pytest.mark.parametrize("limits", [{}, {"requests_per_s": 0.01}])
def test_a_wish_to_stop_is_heard_while_it_waits_for_hours(limits):
    began = time.monotonic()
    server = Server(lambda number, times: "http_429", after_s=86_400.0)
    ask(server, 40, lambda: time.monotonic() - began > 0.5, patience_s=1e6, **limits)
    assert time.monotonic() - began < 60


def test_with_a_budget_the_first_answer_tells_what_the_others_cost():
    server = Server(lambda number, times: None)
    found = ask(server, 100, left=Amount(1e9, 1500.0, 1e9))
    assert 0 < sum(each.tokens_in + each.tokens_out for each in found.values()) <= 1500 and server.most > 1


def kept_and_asked(ask_one, many, stopping=lambda: False, **limits) -> tuple[list[dict], Purse]:
    """The lines that were kept, each before what it is about; `ask_one(request)` stands for the server."""

    async def run() -> tuple[list[dict], Purse]:
        lines: list[dict] = []

        class Told:
            async def ask(self, request: Request) -> Answer:
                mine = [line for line in lines if line.get("sent") == request.key]
                assert mine and mine[-1]["try"] not in [line.get("failed") for line in lines]  # this attempt is there
                return await ask_one(request, len(mine))

        async def requests():
            for number in range(many):
                yield Request((Message("user", "x"),), str(number))

        asked = LimitSettings(**({"in_flight": 16, "attempts": 3, "patience_s": 60.0} | limits))
        purse = Purse(Amount(1e9, 1e9, 1e9), Terms("m", 10))
        asking = Asking(Told(), asked, 1.0, purse, Keeper(lines.extend), lambda r, a: None, stopping)
        await asyncio.wait_for(asking.run(requests()), 60)
        return lines, purse

    return asyncio.run(run())


def test_every_attempt_is_written_down_before_it_is_sent_and_closed_by_what_came_of_it():
    async def answer(request: Request, times: int) -> Answer:
        if times == 1 and int(request.key) % 2:
            raise Later("timeout", 0.0, may_cost=True)
        if times == 2 and int(request.key) % 4 == 1:
            raise Later("http_500", 0.0)
        return Answer("a text of some words", tokens_in=0 if int(request.key) == 0 else 100, tokens_out=5)

    lines, purse = kept_and_asked(answer, 20)
    tally = Lines().read(lines).whole()
    assert (tally.answered, tally.unknown, tally.failed) == (20, {"timeout": 10}, {"http_500": 5})
    assert tally.finished == 20 and tally.attempts == 35 == sum("sent" in line for line in lines)
    assert (tally.tokens_in, tally.estimated, tally.estimated_out) == (1900, 1, 5) and tally.estimated_in > 0
    assert purse.spent == cost_of_tally(tally, Terms("m", 10))


def test_a_stop_waits_no_longer_for_answers_than_it_may_and_keeps_those_that_came():
    began = time.monotonic()

    async def answer(request: Request, times: int) -> Answer:
        await asyncio.sleep(1.0 if int(request.key) % 2 else 3600)
        return Answer("late", tokens_in=7, tokens_out=3)

    lines, purse = kept_and_asked(answer, 16, lambda: time.monotonic() - began > 0.5, stop_after_s=4.0, timeout_s=7200)
    tally = Lines().read(lines).whole()
    sent = sum("sent" in line for line in lines)  # fewer than 16 where it was slow to begin
    assert tally.attempts == sent and tally.answered + sum(tally.unknown.values()) == sent
    assert {line["key"] for line in lines if "answer" in line} == {
        line["sent"] for line in lines if "sent" in line and int(line["sent"]) % 2
    }
    assert set(tally.unknown) <= {CUT_OFF}
    assert purse.spent == cost_of_tally(tally, Terms("m", 10))


def test_who_says_when_to_come_back_is_not_asked_before():
    asked: dict[int, list[float]] = {}

    def does(number: int, times: int) -> str | None:
        asked.setdefault(number, []).append(time.monotonic())
        return "http_429" if number < 3 and times == 1 else None

    assert len(ask(Server(does, after_s=1.2), 20, patience_s=60.0)) == 20
    assert all(times[1] - times[0] >= 1.2 for times in asked.values() if len(times) > 1)
    assert sorted(number for number, times in asked.items() if len(times) > 1) == [0, 1, 2]


def test_who_does_not_say_is_asked_later_and_later_and_by_each_request_at_its_own_time():
    requests = [Request((Message("user", "x"),), str(number)) for number in range(50)]
    waits = [[_wait_s(request, attempt, None) for request in requests] for attempt in range(20)]
    assert all(len(set(each)) == 50 and max(each) <= 2 * min(each) for each in waits)
    assert all(min(later) >= max(earlier) * 0.9 for earlier, later in zip(waits[:5], waits[2:7], strict=True))
    assert max(waits[-1]) == pytest.approx(max(waits[-2]), rel=0.1) and max(waits[-1]) < 300
    said = [_wait_s(request, 0, 7.0) for request in requests]
    assert min(said) >= 7.0 and max(said) < 8.0 and len(set(said)) == 50
    assert all(_wait_s(request, 0, 0.0) > 0 for request in requests)
