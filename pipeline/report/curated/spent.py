"""What the answers of models have cost: requests, tokens and money, of this dataset and of the whole pool."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.report.figures import count_text, share_text, words_of
from pipeline.report.limits import Limits
from pipeline.report.schemas import Spent, SpentStage, Summary

Rows = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Outlay:
    """rows: what is said of this dataset and of the pool, each with its label."""

    stage: SpentStage
    rows: Rows
    failed: Rows
    unknown: str


def money_text(money: float | None) -> str:
    """In the currency of the recipe's prices."""
    if money is None:
        return "no prices"
    return f"{money:,.2f}" if money >= 0.01 or money == 0 else f"{money:.2g}"


def outlays(summary: Summary, limits: Limits) -> list[Outlay]:
    return [_outlay(each, limits) for each in summary.asked[: limits.stages]]


def _outlay(stage: SpentStage, limits: Limits) -> Outlay:
    rows = [("inputs", count_text(stage.inputs), ""), ("answered before, from the pool", count_text(stage.known), "")]
    used = stage.used
    tokens = f"{count_text(used.tokens_in)} in, {count_text(used.tokens_out)} out"
    rows += [("answers used or looked at", count_text(used.answers), ""), ("their tokens, whoever asked", tokens, "")]
    if stage.is_server:
        mine, whole = _rows(stage.run), _rows(stage.pool)
        rows += [(name, mine[name], whole[name]) for name in mine]
    reasons = sorted({*stage.pool.failed, *stage.run.failed}, key=lambda name: (-stage.pool.failed.get(name, 0), name))
    lost = sorted({*stage.pool.unknown, *stage.run.unknown}, key=lambda n: (-stage.pool.unknown.get(n, 0), n))
    failed = [("failed", name, stage.run.failed, stage.pool.failed) for name in reasons]
    failed += [("answer unknown", name, stage.run.unknown, stage.pool.unknown) for name in lost]
    shown = [
        (f"{kind}: {words_of(name)}", count_text(run.get(name, 0)), count_text(pool.get(name, 0)))
        for kind, name, run, pool in failed[: limits.reasons]
    ]
    return Outlay(stage, tuple(rows), tuple(shown), unknown_text(stage.run))


def _rows(spent: Spent) -> dict[str, str]:
    found = {
        "requests answered": count_text(spent.answers),
        "sent again": count_text(spent.sent_again),
        "failed attempts": count_text(sum(spent.failed.values())),
        "sent, answer unknown": count_text(sum(spent.unknown.values())),
        "tokens in": _counted(spent.tokens_in, spent.estimated_in),
        "tokens out": _counted(spent.tokens_out, spent.estimated_out),
        "tokens of unknown answers, at most": count_text(spent.unknown_in + spent.unknown_out),
        "money, with what unknown answers may cost": money_text(spent.money),
    }
    return found | {f"share of the budget of {name}": share_text(part, 1) for name, part in _budget(spent)}


def _budget(spent: Spent) -> Sequence[tuple[str, float]]:
    return sorted(spent.of_budget.items())


def _counted(said: int, estimated: int) -> str:
    """As the server said, and what is estimated where it said none."""
    return count_text(said) + (f" + about {count_text(estimated)}, estimated" if estimated else "")


def spent_text(spent: Spent) -> str:
    """All of it in a line."""
    tokens_in = _counted(spent.tokens_in, spent.estimated_in)
    tokens = f"{tokens_in} tokens in, {_counted(spent.tokens_out, spent.estimated_out)} out"
    words = [f"{count_text(spent.answers)} requests answered", tokens, unknown_text(spent)]
    words += [f"{money_text(spent.money)} in money"] if spent.money is not None else []
    words += [f"{share_text(part, 1)} of the budget of {name}" for name, part in _budget(spent)]
    return ", ".join(word for word in words if word)


def unknown_text(spent: Spent) -> str:
    """In a line, "" when there are none."""
    number = sum(spent.unknown.values())
    most = count_text(spent.unknown_in + spent.unknown_out)
    return f"sent, answer unknown: {count_text(number)}, at most {most} tokens" if number else ""
