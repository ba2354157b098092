"""A log holds one line a step, exactly, and never loses a good line for the sake of a damaged one."""

import json
import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.output.metrics import JsonLines, restore


def line(step: int, loss: float = 1.0) -> bytes:
    return (json.dumps({"step": step, "loss": loss}) + "\n").encode()


def steps_in(path: Path) -> list[int]:
    return [json.loads(one)["step"] for one in path.read_bytes().splitlines()]


@pytest.fixture
def warned(monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("clipmill"), "propagate", True)
    return caplog


def test_lines_the_checkpoint_does_not_hold_are_cut_off_and_nothing_is_set_aside(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_bytes(b"".join(map(line, range(9))) + line(9)[:7])
    with JsonLines(log, 6, every_step=True) as lines:
        lines.write({"step": 6, "loss": float("nan")})
    assert steps_in(log) == list(range(7)) and [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize(
    "damage", [b"garbage\n", b"\0\0\0\n", b'{"step": 2, "lo\n', b"[1]\n", b'{"step": true}\n', b"[" * 9000 + b"\n"]
)
def test_a_line_damaged_in_the_middle_costs_that_line_alone_and_is_named(tmp_path, warned, damage):
    log = tmp_path / "metrics.jsonl"
    before = line(0) + line(1) + damage + line(3) + line(4)
    log.write_bytes(before)
    with JsonLines(log, 5, every_step=True) as lines:
        lines.write({"step": 5})
    assert steps_in(log) == [0, 1, 3, 4, 5]
    assert (tmp_path / "metrics.jsonl.damaged-1").read_bytes() == before
    assert "1 of 5 steps done before: 2" in warned.text


@pytest.mark.timeout(60)
def test_what_is_set_aside_is_never_written_over(tmp_path):
    log, kept = tmp_path / "metrics.jsonl", []
    for number in range(3):
        log.write_bytes(line(0) + f"damage {number}\n".encode() + line(1))
        kept.append(log.read_bytes())
        restore(log, 2, every_step=True)
    asides = [tmp_path / f"metrics.jsonl.damaged-{number}" for number in (1, 2, 3)]
    assert [aside.read_bytes() for aside in asides] == kept and steps_in(log) == [0, 1]


def test_a_log_cut_at_its_front_keeps_what_is_there(tmp_path, warned):
    log = tmp_path / "metrics.jsonl"
    log.write_bytes(line(3)[5:] + line(4) + line(5))
    restore(log, 6, every_step=True)
    assert steps_in(log) == [4, 5] and "4 of 6 steps done before: 0, 1, 2, 3" in warned.text


def test_a_step_logged_twice_is_there_once_with_its_later_numbers(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_bytes(line(0) + line(1, 5.0) + line(1, 7.0) + line(2))
    restore(log, 3)
    assert [json.loads(one)["loss"] for one in log.read_bytes().splitlines()] == [1.0, 7.0, 1.0]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 8).map(line) | st.sampled_from([b"x\n", b"\n", b'{"a": 1}\n', b"\xff\n"]), max_size=12),
    st.integers(0, 9),
    st.binary(max_size=3),
)
def test_whatever_the_log_held_each_step_below_the_checkpoint_is_there_once(tmp_path_factory, parts, below, end):
    log = tmp_path_factory.mktemp("log") / "metrics.jsonl"
    log.write_bytes(b"".join(parts) + end.replace(b"\n", b""))
    held = sorted({step for step in range(below) if line(step) in parts})
    restore(log, below, every_step=True)
    assert steps_in(log) == held and log.read_bytes() == b"".join(map(line, held))
    restore(log, below)  # nothing more to mend
    assert len(list(log.parent.glob("*.damaged-*"))) <= 1
