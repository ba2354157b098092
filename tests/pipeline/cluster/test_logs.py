"""`logs`: all attempts in a row, then what only the scheduler has; no line twice, and an end when the run has one."""

import threading

import pytest

from pipeline.cluster import logs
from pipeline.cluster.logs import print_logs
from pipeline.cluster.rundir import attempts, lock, write_state
from pipeline.cluster.schedulers import SCHEDULERS, Job, Said
from pipeline.errors import ClipmillError
from tests.helpers.nodes import fake_run


class Pods:
    """A scheduler with words of its own."""

    name = "pods"

    def __init__(self):
        self.lines, self.state, self.asked, self.away = [], "running", [], False

    def say(self, source, *texts):
        self.lines += [Said(source, f"{len(self.lines)}.{number}", text) for number, text in enumerate(texts)]

    def jobs(self, run, ids):
        return [Job(each, "train", self.state) for each in ids]

    def said(self, run, ids, within_s=None):
        self.asked.append(within_s)
        if self.away:
            raise ClipmillError("kubectl logs", "no answer", "", "is it there?")
        return list(self.lines)


@pytest.fixture
def pods(monkeypatch):
    monkeypatch.setattr(logs, "FOLLOW_S", 0.02)
    monkeypatch.setattr(logs, "ASK_S", 0.05)
    monkeypatch.setitem(SCHEDULERS, "pods", Pods())
    return SCHEDULERS["pods"]


@pytest.fixture
def run(tmp_path, pods):
    found = fake_run(tmp_path)
    attempts.note(found, "submitted", on="pods", jobs=["7"])
    return found


def logged(run, attempt, text, node=0):
    run.attempt_logs(attempt).mkdir(parents=True, exist_ok=True)
    with open(run.log(attempt, node), "a") as file:
        file.write(text)


def printed(run, only=None):
    said = []
    print_logs(run, 0, only, False, said.append)
    return "".join(said).splitlines()


def followed(run):
    said = []
    thread = threading.Thread(target=print_logs, args=(run, 0, None, True, said.append), daemon=True)
    thread.start()
    return said, thread


def until(true):
    for _ in range(1000):
        if true():
            return
        threading.Event().wait(0.02)
    raise AssertionError("not within 20 s")


def test_logs_of_all_attempts_follow_each_other(run):
    logged(run, 1, "one\n")
    logged(run, 10, "ten\n")
    logged(run, 2, "two\n")
    assert [line for line in printed(run) if not line.startswith("---")] == ["one", "two", "ten"]
    assert printed(run, 2) == ["two"]


def test_logs_are_followed_over_attempts_until_the_run_has_ended(run, pods):
    write_state(run, 1, stage="train", status="running", owner="a")
    logged(run, 1, "one\n")
    said, thread = followed(run)
    until(lambda: "one\n" in said)
    logged(run, 1, "more\n")
    lock.take(run, 2, "b")
    logged(run, 2, "two\n")
    write_state(run, 2, status="completed", owner="b")
    pods.state = "done"
    thread.join(20)
    assert not thread.is_alive()
    assert [line for line in "".join(said).splitlines() if line[:3] != "---"] == ["one", "more", "two"]


def test_what_only_the_scheduler_has_stands_behind_the_logs(run, pods):
    """Words from before the log was opened; not those of the log again, whichever node's."""
    pods.say("pod/a/node", "error: no space left", "one")
    pods.say("pod/b/node", "of node 1", "Killed")
    logged(run, 1, "one\n")
    logged(run, 1, "of node 1\n", node=1)
    assert printed(run) == [
        f"--- attempt 1, node 0: {run.log(1, 0)}", "one",
        "--- in no log, from pods: pod/a/node", "error: no space left",
        "--- in no log, from pods: pod/b/node", "Killed",
    ]  # fmt: skip
    assert printed(run, 1) == ["one"]


def test_a_run_whose_directory_only_the_pods_see_is_followed_to_its_end(run, pods):
    """Nothing of it is here: neither a state nor a log."""
    pods.say("pod/a/node", "begins", "step 1")
    said, thread = followed(run)
    until(lambda: "step 1\n" in said)
    pods.say("pod/a/node", "step 2")
    until(lambda: "step 2\n" in said)
    assert thread.is_alive()
    pods.say("pod/a/node", "step 3")
    pods.state = "done"
    thread.join(20)
    assert not thread.is_alive()
    assert said == ["--- in no log, from pods: pod/a/node\n", "begins\n", "step 1\n", "step 2\n", "step 3\n"]
    assert pods.asked[0] is None and all(60 <= each < 70 for each in pods.asked[1:])


def test_a_scheduler_that_cannot_be_asked_is_told_once_and_asked_again(run, pods):
    pods.away = True
    logged(run, 1, "one\n")
    said, thread = followed(run)
    until(lambda: len(pods.asked) > 3)
    pods.away = False
    pods.say("pod/a/node", "late")
    until(lambda: "late\n" in said)
    pods.state = "failed"
    thread.join(20)
    text = "".join(said)
    assert text.count("cannot be shown: kubectl logs: no answer") == 1 and "one\n" in text


def test_a_run_that_says_it_goes_on_but_has_no_job_left_is_not_followed_for_ever(run, pods):
    write_state(run, 1, stage="train", status="running", owner="a")
    said, thread = followed(run)
    pods.state = "gone"  # its node lost its power
    thread.join(20)
    assert not thread.is_alive()
