"""One rule for stop signals: the first is noted, a second SIGINT interrupts, all handlers are given back."""

import os
import signal
import threading

import pytest

from pipeline.errors import Stopped
from pipeline.signals import STOP_SIGNALS, StopSignals


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in STOP_SIGNALS]


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_the_first_signal_is_noted_and_ends_the_command_where_it_asks(number):
    before = handlers()
    with StopSignals() as signals:
        signals.check("curate")
        os.kill(os.getpid(), number)
        assert signals.received == number
        with pytest.raises(Stopped, match=f"curate: stopped by {signal.Signals(number).name}") as caught:
            signals.check("curate")
    assert caught.value.exit_code == 75 and handlers() == before


def test_a_second_term_changes_nothing_and_a_second_interrupt_interrupts():
    with StopSignals() as signals:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_signals_taken_by_a_library_are_taken_back_and_given_back_as_they_were():
    before = handlers()
    with StopSignals() as signals:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signals.arm()
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == signal.SIGTERM
    assert handlers() == before


def test_one_that_waits_for_others_passes_every_signal_on():
    passed: list[int] = []
    with StopSignals(passed_on=passed.append) as signals:
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert signals.received
    assert passed == [signal.SIGINT, signal.SIGINT, signal.SIGTERM]


def test_outside_of_the_main_thread_nothing_is_taken():
    before, inside = handlers(), []

    def work() -> None:
        with StopSignals():
            inside.extend(handlers())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == before == handlers()
