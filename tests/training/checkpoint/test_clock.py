"""When to save: steps, minutes, Young's interval, signals."""

import os
import signal
import subprocess
import sys
import time

import pytest

from pipeline.signals import StopSignals
from training.checkpoint.clock import FIRST_S, CheckpointSettings, SaveClock, interval_s


class Time:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def clock_of(time_: Time, world: int = 1, cost_s: float | None = None, **settings) -> SaveClock:
    return SaveClock(CheckpointSettings(**settings), world, cost_s, time_)


def test_every_steps_counts_steps_of_the_run_not_of_the_process() -> None:
    clock = clock_of(Time(), every_steps=10)
    assert [step for step in range(1, 41) if clock.due(step)] == [10, 20, 30, 40]
    assert clock.every_s is None and clock.in_words() == "every 10 steps"


def test_every_minutes_counts_from_the_end_of_the_last_save() -> None:
    now = Time()
    clock = clock_of(now, every_minutes=2)
    now.now = 119
    assert not clock.due(1)
    now.now = 120
    assert clock.due(2)
    now.now = 150  # the save took 30 s
    clock.saved(30)
    now.now = 269
    assert not clock.due(3)
    now.now = 270
    assert clock.due(4)


def test_steps_and_minutes_together_save_at_whichever_comes_first() -> None:
    now = Time()
    clock = clock_of(now, every_steps=100, every_minutes=1)
    assert clock.due(100) and not clock.due(101)
    now.now = 61
    assert clock.due(102)


@pytest.mark.parametrize(("gpus", "cost_s", "minutes"), [
        (256, 5, 44.7), (1024, 5, 22.3), (1024, 60, 60), (16_384, 5, 5.58),
    ])  # fmt: skip
def test_the_default_interval_is_youngs(gpus: int, cost_s: float, minutes: float) -> None:
    between_failures_s = 86_400 / (4.7e-4 * gpus)
    found = interval_s(cost_s, gpus, 4.7e-4)
    assert found == pytest.approx(min((2 * cost_s * between_failures_s) ** 0.5, 3600))
    assert found / 60 == pytest.approx(minutes, rel=0.01)


def test_youngs_interval_loses_less_than_its_half_or_its_double() -> None:
    """Lost share of saving every t seconds: C/t for the saves and t/(2M) for the work done again."""
    cost_s, between_failures_s = 20.0, 86_400 / (4.7e-4 * 4096)

    def lost(t: float) -> float:
        return cost_s / t + t / (2 * between_failures_s)

    best = interval_s(cost_s, 4096, 4.7e-4)
    assert lost(best) < min(lost(best / 2), lost(best * 2), lost(best * 0.9), lost(best * 1.1))


def test_without_settings_the_first_save_comes_early_and_its_cost_sets_the_next() -> None:
    now = Time()
    clock = clock_of(now, world=1024)
    now.now = FIRST_S - 1
    assert not clock.due(5)
    now.now = FIRST_S
    assert clock.due(6)
    clock.saved(5.0)
    assert clock.every_s == pytest.approx(interval_s(5.0, 1024, 4.7e-4))
    assert clock_of(now, world=1024, cost_s=5.0).every_s == clock.every_s  # a resumed run knows it already


def test_a_signal_is_noted_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with StopSignals() as stop:
        assert stop.received == 0
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stop.received == signal.SIGUSR1
    assert signal.getsignal(signal.SIGUSR1) == before


def test_a_second_interrupt_interrupts_at_once() -> None:
    with StopSignals(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)


def test_a_forked_worker_survives_the_first_term_and_not_the_second() -> None:
    code = (
        "import os, time\nfrom pipeline.signals import StopSignals\n"
        "with StopSignals():\n"
        "    child = os.fork()\n"
        "    if child == 0:\n        print('up', flush=True)\n"
        "        time.sleep(0.3)\n        print('alive', flush=True)\n"
        "        time.sleep(60)\n"
        "    time.sleep(0.2)\n    os.kill(child, 15)\n    time.sleep(0.5)\n    os.kill(child, 15)\n"
        "    print('ended', os.waitpid(child, 0)[1] != 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout.split() == ["up", "alive", "ended", "True"], done.stderr
