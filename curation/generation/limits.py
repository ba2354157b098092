"""How a server is treated, and how much may be spent with it."""

import math
from typing import Any, NamedTuple

from pydantic import Field

from curation.generation.estimate import tokens_of
from curation.generation.request import Request, Terms
from pipeline.settings import Settings

_NO_END = float("inf")
_LEAST_FACTOR, _ROOM = 1.5, 1.25


class LimitSettings(Settings):
    """Of the whole stage, shared out over the processes that ask (`placement.generate.actors`, by default one)."""

    in_flight: int = Field(default=256, ge=1, le=65_536, description="requests under way at a time")
    requests_per_s: float | None = Field(default=None, gt=0)
    tokens_per_s: float | None = Field(default=None, gt=0, description="of prompts and answers, as they are estimated")
    timeout_s: float = Field(default=120.0, gt=0, description="of one request")
    attempts: int = Field(default=6, ge=1, description="after so many a request has failed, for a passing reason")
    patience_s: float = Field(
        default=300.0, gt=0, description="a server that answers nothing for so long ends the run, which goes on later"
    )
    stop_after_s: float = Field(
        default=20.0,
        ge=0,
        description="how long a run that is told to stop waits for answers under way: schedulers kill",
    )


class BudgetSettings(Settings):
    """What this prompt and model may cost in all runs over the pool: what was answered, as the server counted it (or as
    it is estimated, where it did not), and of what was sent and may have been answered without our hearing of it the
    most that it can cost. What a server refused costs nothing. prices: per million tokens, in any currency."""

    requests: int | None = Field(default=None, ge=0)
    tokens: int | None = Field(default=None, ge=0)
    money: float | None = Field(default=None, ge=0)
    price_in: float = Field(default=0.0, ge=0)
    price_out: float = Field(default=0.0, ge=0)

    @property
    def is_limited(self) -> bool:
        return not (self.requests is self.tokens is self.money is None)


class Amount(NamedTuple):
    """Spent, or left to spend."""

    requests: float = 0
    tokens: float = 0
    money: float = 0

    def plus(self, other: "Amount", factor: float = 1) -> "Amount":
        return Amount(*(mine + factor * its for mine, its in zip(self, other, strict=True)))

    def times(self, factor: float) -> "Amount":
        return Amount(*(_NO_END if each == _NO_END else each * factor for each in self))

    def covers(self, other: "Amount") -> bool:
        return all(mine >= its for mine, its in zip(self, other, strict=True))


ENDLESS = Amount(_NO_END, _NO_END, _NO_END)


def allowed(budget: BudgetSettings) -> Amount:
    return Amount(*(_NO_END if each is None else each for each in (budget.requests, budget.tokens, budget.money)))


def cost_of_tally(tally: Any, terms: Terms) -> Amount:
    """Of all attempts that a pool knows of (curation/pool/accounts.py)."""
    tokens_in = tally.tokens_in + tally.estimated_in + tally.unknown_in
    tokens_out = tally.tokens_out + tally.estimated_out + tally.unknown_out
    return cost_of(tokens_in, tokens_out, terms, tally.answers + sum(tally.unknown.values()))


def cost_of(tokens_in: float, tokens_out: float, terms: Terms, requests: int = 1) -> Amount:
    money = (tokens_in * terms.price_in + tokens_out * terms.price_out) / 1e6
    return Amount(requests, tokens_in + tokens_out, money)


class Purse:
    """What one process may spend. An attempt is paid for with what it can cost at most before it is sent, and settled
    when it is answered: so nothing is overrun, whatever is under way.

    Prompts are estimated: half as much again is set aside for them, or more where a server has counted more.
    """

    def __init__(self, left: Amount, terms: Terms) -> None:
        self._left, self._terms, self.spent = left, terms, Amount()
        self._factor, self._aside = _LEAST_FACTOR, dict[tuple[str, int], Amount]()

    @property
    def is_limited(self) -> bool:
        return self._left != ENDLESS

    def most_tokens(self, request: Request) -> tuple[int, int]:
        """(in, out) that an attempt can cost."""
        return math.ceil(self._factor * tokens_of(request)), self._terms.max_tokens or 0

    def reserve(self, request: Request) -> bool:
        """False, and nothing set aside, when there is not enough for an attempt."""
        most = cost_of(*self.most_tokens(request), self._terms)
        if not self._left.covers(most):
            return False
        self._left = self._left.plus(most, -1)
        self._aside[request.key, request.sample] = most
        return True

    def settle(self, request: Request, tokens_in: int, tokens_out: int) -> None:
        """An attempt was answered."""
        real = cost_of(tokens_in, tokens_out, self._terms)
        self.spent = self.spent.plus(real)
        aside = self._aside.pop((request.key, request.sample))
        self._left = self._left.plus(aside).plus(real, -1)
        self._factor = max(self._factor, _ROOM * tokens_in / max(tokens_of(request), 1))

    def release(self, request: Request) -> None:
        """No attempt of it cost anything, and none follows."""
        self._left = self._left.plus(self._aside.pop((request.key, request.sample)))

    def lose(self, request: Request) -> None:
        """An attempt may have been billed, and nothing came: what was set aside is gone."""
        self.spent = self.spent.plus(self._aside.pop((request.key, request.sample)))
