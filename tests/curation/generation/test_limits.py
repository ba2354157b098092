"""What is reserved and settled never overruns what may be spent, in whatever order answers come."""

from hypothesis import given
from hypothesis import strategies as st

from curation.generation.limits import ENDLESS, Amount, BudgetSettings, Purse, allowed
from curation.generation.request import Answer, Message, Request, Terms

TERMS = Terms("m", 30, 2.0, 8.0)


def request(length: int, key: str = "k") -> Request:
    return Request((Message("user", "x" * length),), key)


@given(
    st.integers(0, 20), st.integers(0, 3000), st.floats(0, 0.02),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 30), st.booleans()), max_size=40),
)  # fmt: skip
def test_no_limit_is_ever_overrun(requests, tokens, money, calls):
    purse, under_way = Purse(Amount(requests, tokens, money), TERMS), []
    spent = [0, 0, 0.0]

    def settle(asked, length, out):
        used = length // 4 + 8  # what a server counts: no more than half as much again as is estimated
        purse.settle(asked, Answer("x", tokens_in=used, tokens_out=out))
        spent[0] += 1
        spent[1] += used + out
        spent[2] += (used * 2.0 + out * 8.0) / 1e6

    for number, (length, out, at_once) in enumerate(calls):
        if purse.reserve(request(length, str(number))):
            under_way.append((request(length, str(number)), length, out))
        if at_once and under_way:
            settle(*under_way.pop(0))
    for each in reversed(under_way):
        settle(*each)
    assert spent[0] <= requests and spent[1] <= tokens and spent[2] <= money + 1e-12
    assert purse.spent.requests == spent[0] and purse.spent.tokens == spent[1]


def test_without_limits_everything_is_allowed():
    assert allowed(BudgetSettings()) == ENDLESS and not BudgetSettings().is_limited
    assert Purse(ENDLESS, TERMS).reserve(request(10**6)) and ENDLESS.times(0.0) == ENDLESS


def test_a_server_that_counts_more_tokens_than_are_estimated_is_believed():
    purse = Purse(Amount(100, 1000, 100.0), TERMS)
    assert purse.is_limited and purse.reserve(request(40, "first"))
    purse.settle(request(40, "first"), Answer("x", tokens_in=180, tokens_out=30))  # ten times what was estimated
    bought = 0
    while purse.reserve(request(40, str(bought))):
        bought += 1
    assert 0 < bought * (180 + 30) <= 1000 - 210
