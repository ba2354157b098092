"""This machine as a scheduler: a process that outlives its shell, runs the stages, and starts again what it should."""

import os
import subprocess
import sys

import pytest

from pipeline.cluster.node.alive import Process
from pipeline.cluster.node.relaunch import Relaunch
from pipeline.cluster.rundir import attempts, control, write_state
from pipeline.cluster.schedulers import SCHEDULERS, Request
from pipeline.errors import UsageError
from tests.helpers.nodes import ended, fake_run, until
from tests.helpers.places import ROOT

_RELAUNCH = """
import sys
from pathlib import Path
from pipeline.cluster.node import relaunch
relaunch.NODE, relaunch.PAUSE_S = (sys.executable, "-c", Path(sys.argv[1]).read_text()), (0.01, 0.01)
sys.exit(relaunch.main(sys.argv[2:]))
"""
# A wrapper that only counts: it ends with the next of the codes that a file lists, and says who asked it to stop.
_NODE = """
import signal, sys, time
from pathlib import Path
run, stage = Path(sys.argv[1]), sys.argv[2]
signal.signal(signal.SIGTERM, lambda *_: ((run / "told").write_text("x"), sys.exit(75)))
codes = (run / "codes").read_text().split()
(run / "codes").write_text(" ".join(codes[1:]))
with open(run / "starts", "a") as file:
    file.write(stage + " ")
if codes[0] == "wait":
    time.sleep(60)
sys.exit(int(codes[0]))
"""


def started(run, codes, *stages):
    (run.path / "codes").write_text(codes)
    script = run.path / "node.py"
    script.write_text(_NODE)
    words = [sys.executable, "-c", _RELAUNCH, str(script), str(run.path), *stages]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize(("codes", "code", "starts"), [
    ("0 0", 0, "curate train "),
    ("1 75 71 0 0", 0, "curate curate curate curate train "),  # a crash, a stop, an unfit node: all again
    ("0 78", 78, "curate train "),  # never again
    ("78", 78, "curate "),
])  # fmt: skip
def test_stages_follow_each_other_and_are_started_again_as_their_codes_say(tmp_path, codes, code, starts):
    run = fake_run(tmp_path)
    found, words = ended(started(run, codes, "curate", "train"))
    assert (found, (run.path / "starts").read_text()) == (code, starts), words


def test_a_stop_reaches_the_attempt_once_and_nothing_is_started_after_it(tmp_path):
    run = fake_run(tmp_path)
    process = started(run, "wait 0", "train", "eval")
    until(lambda: (run.path / "starts").exists() and (run.path / "starts").read_text())
    process.terminate()
    assert ended(process)[0] == 75 and (run.path / "told").exists()
    assert (run.path / "starts").read_text() == "train "


def test_the_next_stage_waits_for_a_run_that_was_held(tmp_path):
    run = fake_run(tmp_path)
    relaunch = Relaunch(run)
    write_state(run, 1, stage="train", status="stopped", owner="a")
    assert not relaunch.is_through("train") and relaunch.is_through("curate")
    write_state(run, 1, stage="train", status="completed", owner="a")
    assert relaunch.is_through("train")
    control.ask(run, "cancel")
    assert not relaunch.is_through("train")


def test_what_is_handed_over_is_a_plain_script_with_the_same_bytes_each_time(tmp_path):
    run, local = fake_run(tmp_path), SCHEDULERS["local"]
    files = local.render(run, Request(("curate", "train")))
    assert files == local.render(run, Request(("curate", "train")))
    assert files["run.sh"].endswith(f" -m pipeline.cluster.node.relaunch {run.path} curate train\n")


def test_what_one_machine_cannot_do_is_refused(tmp_path):
    run, local = fake_run(tmp_path), SCHEDULERS["local"]
    for request in (Request(("train",), nodes=2), Request(("train",), options={"partition": "x"})):
        with pytest.raises(UsageError):
            local.render(run, request)


def test_a_run_is_run_by_one_process_at_a_time_and_known_by_it(tmp_path):
    run, local = fake_run(tmp_path), SCHEDULERS["local"]
    me = str(Process.of(os.getpid()))
    attempts.note(run, "submitted", on="local", jobs=[me])
    with pytest.raises(UsageError, match="is being run by process"):
        local.submit(run, Request(("train",)))
    assert [job.state for job in local.jobs(run, [me, me.replace("@", "@9")])] == ["running", "gone"]
    elsewhere = "other-host:1@2"
    assert local.jobs(run, [elsewhere])[0].reason.startswith("it runs on other-host")


def test_what_it_says_between_the_attempts_is_kept(tmp_path):
    run = fake_run(tmp_path)
    assert SCHEDULERS["local"].said(run, []) == []
    output = run.jobs("local") / "output.log"
    output.parent.mkdir()
    output.write_bytes(b"one\n\xfftwo\nhalf a li")
    said = SCHEDULERS["local"].said(run, [])
    assert [(each.source, each.stamp, each.text) for each in said] == [
        (str(output), "0", "one"), (str(output), "1", "\ufffdtwo"),
    ]  # fmt: skip
