"""What is reserved and settled never overruns what may be spent, in whatever order answers come."""

from hypothesis import given
from hypothesis import strategies as st

from curation.generation.limits import ENDLESS, Amount, BudgetSettings, Purse, allowed, cost_of_tally
from curation.generation.request import Message, Request, Terms
from curation.pool.accounts import Tally

TERMS = Terms("m", 30, 2.0, 8.0)


def request(length: int, key: str = "k") -> Request:
    return Request((Message("user", "x" * length),), key)


@given(
    st.integers(0, 20), st.integers(0, 3000), st.floats(0, 0.02),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 30), st.booleans(), st.integers(0, 3)), max_size=40),
)  # fmt: skip
def test_no_limit_is_ever_overrun_though_answers_are_lost_and_billed_all_the_same(requests, tokens, money, calls):
    purse, under_way = Purse(Amount(requests, tokens, money), TERMS), []
    billed = [0, 0, 0.0]

    def bill(used, out):
        billed[0] += 1
        billed[1] += used + out
        billed[2] += (used * 2.0 + out * 8.0) / 1e6

    def settle(asked, length, out, lost):
        used = length // 4 + 8  # what a server counts: no more than half as much again as is estimated
        for _ in range(lost):  # an attempt whose answer never came; then another one, when there is enough for it
            bill(used, out)
            purse.lose(asked)
            if not purse.reserve(asked):
                return
        bill(used, out)
        purse.settle(asked, used, out)

    for number, (length, out, at_once, lost) in enumerate(calls):
        if purse.reserve(request(length, str(number))):
            under_way.append((request(length, str(number)), length, out, lost))
        if at_once and under_way:
            settle(*under_way.pop(0))
    for each in reversed(under_way):
        settle(*each)
    assert billed[0] <= requests and billed[1] <= tokens and billed[2] <= money + 1e-12
    assert purse.spent.requests == billed[0] and purse.spent.tokens >= billed[1]


def test_without_limits_everything_is_allowed():
    assert allowed(BudgetSettings()) == ENDLESS and not BudgetSettings().is_limited
    assert Purse(ENDLESS, TERMS).reserve(request(10**6)) and ENDLESS.times(0.0) == ENDLESS


def test_a_server_that_counts_more_tokens_than_are_estimated_is_believed():
    purse = Purse(Amount(100, 1000, 100.0), TERMS)
    assert purse.is_limited and purse.reserve(request(40, "first"))
    purse.settle(request(40, "first"), 180, 30)  # ten times what was estimated
    bought = 0
    while purse.reserve(request(40, str(bought))):
        bought += 1
    assert 0 < bought * (180 + 30) <= 1000 - 210


def test_what_was_spent_is_all_that_was_counted_estimated_or_may_have_been_billed():
    tally = Tally(
        finished=9, answers=7, answered=6, tokens_in=1000, tokens_out=200, estimated=2, estimated_in=30,
        estimated_out=4, failed={"http_429": 5}, unknown={"cut_off": 2, "timeout": 1}, unknown_in=500, unknown_out=60,
    )  # fmt: skip
    spent = cost_of_tally(tally, Terms("m", 10, price_in=2.0, price_out=10.0))
    assert spent == Amount(7 + 3, 1530 + 264, (1530 * 2.0 + 264 * 10.0) / 1e6)
    assert cost_of_tally(Tally(), Terms("m", 10, price_in=2.0)) == Amount()
