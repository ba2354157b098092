"""The pipeline Job against an API server over HTTP: each stage once, whatever is lost on the way."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from pipeline.cluster.k8s.api import ApiError, ApiServer
from pipeline.cluster.k8s.live import find_template
from pipeline.cluster.k8s.reconcile import Chain, prepared
from pipeline.cluster.rundir import RunDir, control
from pipeline.errors import ClipmillError, DataError, Stopped
from tests.helpers.datasets import make_dataset
from tests.helpers.kube_api import Kube, kube_api
from tests.helpers.places import ROOT

DISRUPTED = {"reason": "PodFailurePolicy", "message": "Pod ns/p has condition DisruptionTarget matching FailJob rule"}
BAD_RECIPE = {"reason": "PodFailurePolicy", "message": "Container node for pod ns/p failed with exit code 78 matching"}
CRASH = {"reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}


@pytest.fixture
def kube():
    with kube_api() as server:
        yield server


def template(kind: str, api: str, stage: str, **spec) -> dict:
    labels = {"clipmill/run": "r", "clipmill/stage": stage, "clipmill/role": "template"}
    about = {"name": f"clipmill-{stage}", "labels": labels, "annotations": {}}
    return {"apiVersion": api, "kind": kind, "metadata": about, "spec": {"suspend": True, **spec}}


def templates(kube: Kube, plain: bool = False) -> None:
    pod = {"template": {"metadata": {"labels": {"clipmill/stage": "train"}}, "spec": {}}}
    if plain:
        train = template("Job", "batch/v1", "train", **pod)
        train["metadata"]["annotations"] = {"clipmill/max-restarts": "2"}
        kube.put("jobs", train)
        kube.denied |= {"jobsets", "rayjobs", "trainjobs"}
        kube.put("jobs", template("Job", "batch/v1", "curate", **pod))
    else:
        kube.put("jobsets", template("JobSet", "jobset.x-k8s.io/v1alpha2", "train", managedBy="clipmill/template"))
        kube.put("rayjobs", template("RayJob", "ray.io/v1", "curate"))
        kube.unknown |= {"trainjobs"}
    kube.put("jobs", template("Job", "batch/v1", "eval", **pod))


def recipe(tmp_path: Path, **more: dict) -> Path:
    path = tmp_path / "recipe.yaml"
    content = {
        "name": "r", "curate": {"sources": []}, "train": {"steps": 4}, "eval": {"sets": []}, **more
    }  # fmt: skip
    path.write_text(yaml.safe_dump(content))
    return path


@contextmanager
def leading(kube: Kube, tmp_path: Path, pipeline: str = "p1", **more: dict):
    """The chain in a thread; what it raised is in the list afterwards."""
    raised: list[BaseException] = []
    run = prepared(tmp_path / "run", recipe(tmp_path, **more), pipeline)
    api = ApiServer(kube.url, "ns", patience_s=5)
    api.first_pause_s = 0.01

    def lead() -> None:
        try:
            Chain(api, run, "r", pipeline, watch_s=1, pause_s=0.02).lead()
        except ClipmillError as error:
            raised.append(error)

    thread = threading.Thread(target=lead)
    thread.start()
    yield raised
    thread.join(30)
    assert not thread.is_alive()


def curated(tmp_path: Path) -> None:
    make_dataset(str(tmp_path / "run/curate"), shards=1, pairs=2)


def ray_done(kube: Kube) -> None:
    kube.wait("rayjobs", "clipmill-curate-live")
    kube.status("rayjobs", "clipmill-curate-live", jobDeploymentStatus="Complete", jobStatus="SUCCEEDED")


def condition(kube: Kube, plural: str, name: str, kind: str, **words: str) -> None:
    kube.status(plural, name, conditions=[{"type": kind, "status": "True", **words}])


def done(kube: Kube, plural: str, name: str) -> None:
    kube.wait(plural, name)
    condition(kube, plural, name, "Completed" if plural == "jobsets" else "Complete")


def test_each_stage_is_started_when_the_one_before_it_is_complete(kube, tmp_path):
    templates(kube)
    with leading(kube, tmp_path) as raised:
        kube.wait("rayjobs", "clipmill-curate-live")
        assert ("jobsets", "clipmill-train-live") not in kube.objects
        curated(tmp_path)
        ray_done(kube)
        live = kube.wait("jobsets", "clipmill-train-live")
        assert live["spec"] == {"suspend": False} and live["metadata"]["labels"]["clipmill/role"] == "live"
        owner = live["metadata"]["ownerReferences"][0]
        assert owner["uid"] == kube.objects["jobsets", "clipmill-train"]["metadata"]["uid"]
        assert ("jobs", "clipmill-eval-live") not in kube.objects
        done(kube, "jobsets", "clipmill-train-live")
        done(kube, "jobs", "clipmill-eval-live")
    assert raised == []
    assert kube.made == ["clipmill-curate-live", "clipmill-train-live", "clipmill-eval-live"]


def test_teachers_look_between_curation_and_training(kube, tmp_path):
    templates(kube)
    kube.put("jobs", template("Job", "batch/v1", "reinforce", template={"metadata": {"labels": {}}, "spec": {}}))
    with leading(kube, tmp_path, reinforce={"set": "s"}) as raised:
        curated(tmp_path)
        ray_done(kube)
        kube.wait("jobs", "clipmill-reinforce-live")
        assert ("jobsets", "clipmill-train-live") not in kube.objects
        done(kube, "jobs", "clipmill-reinforce-live")
        done(kube, "jobsets", "clipmill-train-live")
        done(kube, "jobs", "clipmill-eval-live")
    assert raised == []
    assert kube.made == [f"clipmill-{stage}-live" for stage in ("curate", "reinforce", "train", "eval")]


def test_curation_without_a_manifest_starts_no_training(kube, tmp_path):
    templates(kube)
    with leading(kube, tmp_path) as raised:
        ray_done(kube)
    assert isinstance(raised[0], DataError) and "manifest" in str(raised[0])
    assert kube.made == ["clipmill-curate-live"]


def test_a_manifest_that_is_there_makes_curation_needless_and_one_with_a_lost_shard_stops(kube, tmp_path):
    templates(kube)
    prepared(tmp_path / "run", recipe(tmp_path), "p1")
    curated(tmp_path)
    (tmp_path / "run/curate/shard-000000.tar").unlink()
    with leading(kube, tmp_path) as raised:
        pass
    assert isinstance(raised[0], DataError) and "shard-000000.tar" in str(raised[0]) and kube.made == []


@pytest.mark.parametrize("fault", ["cut", "410", "error event"])
def test_a_watch_that_is_lost_is_begun_again_from_the_object_as_it_is(kube, tmp_path, fault):
    templates(kube)
    kube.watch_faults.extend([fault, "", fault, fault])
    with leading(kube, tmp_path) as raised:
        curated(tmp_path)
        kube.watched("clipmill-curate-live", 1)
        kube.status("rayjobs", "clipmill-curate-live", jobDeploymentStatus="Running", jobStatus="RUNNING")
        kube.watched("clipmill-curate-live", 2)
        ray_done(kube)
        kube.watched("clipmill-train-live", 1)
        done(kube, "jobsets", "clipmill-train-live")
        done(kube, "jobs", "clipmill-eval-live")
    assert raised == [] and len(kube.made) == 3
    assert fault != "410" or ("WATCH", 410) in [(method, status) for method, _, status in kube.log]


@pytest.mark.parametrize("faults", [[500] * 3, [503, 429], [0, 0], [500, 0, 500, 0]])
def test_answers_that_fail_in_passing_start_nothing_twice(kube, tmp_path, faults):
    templates(kube)
    with leading(kube, tmp_path) as raised:
        curated(tmp_path)
        ray_done(kube)
        kube.wait("jobsets", "clipmill-train-live")
        kube.faults.extend(faults)
        done(kube, "jobsets", "clipmill-train-live")
        done(kube, "jobs", "clipmill-eval-live")
    assert raised == [] and sorted(kube.made) == ["clipmill-curate-live", "clipmill-eval-live", "clipmill-train-live"]
    assert not kube.faults


def test_kinds_that_the_role_does_not_name_are_passed_over_and_told_and_other_errors_are_not(kube):
    api = ApiServer(kube.url, "ns", patience_s=0.05)
    kube.denied |= {"rayjobs", "jobs"}
    templates(kube)
    assert find_template(api, "r", "train")[0].resource.kind == "JobSet"
    with pytest.raises(DataError, match=r"may not look for .*Job"):
        find_template(api, "r", "curate")
    kube.denied.clear()
    kube.faults.extend([500] * 50)
    with pytest.raises(ApiError, match="500"):
        find_template(api, "r", "train")


def test_a_creation_whose_answer_is_lost_is_found_by_the_409_of_the_second(kube, tmp_path):
    templates(kube)
    api = ApiServer(kube.url, "ns")
    api.first_pause_s = 0.01
    chain = Chain(api, prepared(tmp_path / "run", recipe(tmp_path), "p1"), "r", "p1", pause_s=0.01)
    kind, found = find_template(api, "r", "train")
    kube.faults.append(0)
    assert chain._create(kind, found, {}) is None
    assert kube.made == ["clipmill-train-live"]
    assert [status for method, _, status in kube.log if method == "POST"] == [0, 409]


def test_an_api_server_that_stays_away_is_an_error_that_is_tried_again(kube, tmp_path):
    templates(kube)
    api = ApiServer(kube.url, "ns", patience_s=0.05)
    api.first_pause_s = 0.01
    kube.faults.extend([500] * 50)
    with pytest.raises(ClipmillError, match="500 InternalError") as caught:
        Chain(api, prepared(tmp_path / "run", recipe(tmp_path), "p1"), "r", "p1").lead()
    assert caught.value.exit_code == 1


def test_the_pipeline_job_killed_at_any_moment_goes_on(kube, tmp_path):
    """The real program, killed -9 in each of its stages; at last the run is done, each stage once."""
    templates(kube)
    run, path = tmp_path / "run", recipe(tmp_path)
    environment = {
        **os.environ, "CLIPMILL_API_URL": kube.url, "CLIPMILL_RUN": "r", "CLIPMILL_PIPELINE_UID": "p1",
    }  # fmt: skip
    code = (
        "import pathlib\nfrom pipeline import log\nfrom pipeline.cluster.k8s import reconcile as r\nlog.configure()\n"
        f"r.reconcile(pathlib.Path({str(run)!r}), pathlib.Path({str(path)!r}))"
    )

    def start() -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, stderr=subprocess.PIPE)

    steps = [
        lambda: kube.wait("rayjobs", "clipmill-curate-live"),
        lambda: (curated(tmp_path), ray_done(kube), kube.wait("jobsets", "clipmill-train-live")),
        lambda: (done(kube, "jobsets", "clipmill-train-live"), kube.wait("jobs", "clipmill-eval-live")),
    ]
    for step in steps:
        process = start()
        step()
        process.kill()
        process.communicate()
    process = start()
    done(kube, "jobs", "clipmill-eval-live")
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said.decode()
    assert kube.made == ["clipmill-curate-live", "clipmill-train-live", "clipmill-eval-live"]
    submitted = [json.loads(line) for line in (run / "attempts.jsonl").read_text().splitlines()]
    assert [each["event"] for each in submitted] == ["submitted"]


def test_a_stage_that_failed_stays_failed_for_this_submission_and_makes_way_for_the_next(kube, tmp_path):
    templates(kube)
    with leading(kube, tmp_path) as raised:
        curated(tmp_path)
        ray_done(kube)
        first = kube.wait("jobsets", "clipmill-train-live")["metadata"]["uid"]
        condition(kube, "jobsets", "clipmill-train-live", "Failed", **BAD_RECIPE)
    assert isinstance(raised[0], DataError) and "exit code 78" in str(raised[0])
    with leading(kube, tmp_path) as raised:  # its own pod, started again
        pass
    assert isinstance(raised[0], DataError) and kube.made.count("clipmill-train-live") == 1
    with leading(kube, tmp_path, "p2") as raised:
        kube.wait("jobsets", "clipmill-train-live", uid_is_not=first)
        done(kube, "jobsets", "clipmill-train-live")
        done(kube, "jobs", "clipmill-eval-live")
    assert raised == []


def test_a_bad_recipe_ends_curation_though_kuberay_would_try_three_times_more(kube, tmp_path):
    templates(kube)
    with leading(kube, tmp_path) as raised:
        kube.wait("rayjobs", "clipmill-curate-live")
        state = {
            "format_version": 1, "stage": "curate", "status": "failed", "class": "config", "message": "no such source",
            "attempt": 1, "owner": "x", "exit_code": 78, "time": time.time() + 5,
        }  # fmt: skip
        (tmp_path / "run/state.json").write_text(json.dumps(state))
        kube.status("rayjobs", "clipmill-curate-live", jobDeploymentStatus="Retrying", failed=1)
    assert "no such source" in str(raised[0]) and raised[0].exit_code == 78
    assert ("rayjobs", "clipmill-curate-live") not in kube.objects


@pytest.mark.parametrize(("word", "by"), [("cancel", "user"), ("stop", "user")])
def test_what_runs_is_ended_when_the_run_is_stopped_or_cancelled(kube, tmp_path, word, by):
    templates(kube)
    kube.lingering.add("clipmill-curate-live")
    with leading(kube, tmp_path) as raised:
        kube.wait("rayjobs", "clipmill-curate-live")
        control.ask(RunDir(tmp_path / "run"), word, by)
        deadline = time.monotonic() + 20
        while "deletionTimestamp" not in kube.objects["rayjobs", "clipmill-curate-live"]["metadata"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert raised == []  # it waits for the pods
        kube.finish("clipmill-curate-live")
    assert isinstance(raised[0], Stopped) and raised[0].exit_code == 75


def test_plain_jobs_are_started_again_by_the_rules_of_the_jobset(kube, tmp_path):
    templates(kube, plain=True)
    kube.lingering.add("clipmill-train-live")
    with leading(kube, tmp_path) as raised:
        curated(tmp_path)
        done(kube, "jobs", "clipmill-curate-live")
        counts, uid = [], ""
        for words in (DISRUPTED, CRASH, DISRUPTED, CRASH, CRASH):
            found = kube.wait("jobs", "clipmill-train-live", uid_is_not=uid)
            uid, notes = found["metadata"]["uid"], found["metadata"]["annotations"]
            counts.append((notes.get("clipmill/crashes", "0"), notes.get("clipmill/restarts", "0")))
            condition(kube, "jobs", "clipmill-train-live", "Failed", **words)
            if words is not CRASH or len(counts) < 5:
                deadline = time.monotonic() + 20
                while "deletionTimestamp" not in kube.objects["jobs", "clipmill-train-live"]["metadata"]:
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                made = kube.made.count("clipmill-train-live")
                time.sleep(0.1)
                assert kube.made.count("clipmill-train-live") == made  # no next one before this one's pods are gone
                kube.finish("clipmill-train-live")
                kube.lingering.add("clipmill-train-live")
    assert counts == [("0", "0"), ("0", "1"), ("1", "2"), ("1", "3"), ("2", "4")]
    assert isinstance(raised[0], DataError) and "BackoffLimitExceeded" in str(raised[0])


def test_a_plain_job_with_a_bad_recipe_is_not_started_again(kube, tmp_path):
    templates(kube, plain=True)
    with leading(kube, tmp_path) as raised:
        curated(tmp_path)
        done(kube, "jobs", "clipmill-curate-live")
        kube.wait("jobs", "clipmill-train-live")
        condition(kube, "jobs", "clipmill-train-live", "Failed", **BAD_RECIPE)
    assert "exit code 78" in str(raised[0]) and kube.made.count("clipmill-train-live") == 1


def test_a_copy_that_somebody_deleted_is_made_again(kube, tmp_path):
    templates(kube)
    with leading(kube, tmp_path) as raised:
        first = kube.wait("rayjobs", "clipmill-curate-live")["metadata"]["uid"]
        kube.drop("rayjobs", "clipmill-curate-live")
        kube.wait("rayjobs", "clipmill-curate-live", uid_is_not=first)
        curated(tmp_path)
        ray_done(kube)
        done(kube, "jobsets", "clipmill-train-live")
        done(kube, "jobs", "clipmill-eval-live")
    assert raised == []


def test_pods_that_ended_well_without_completing_the_stage_are_no_success(kube, tmp_path):
    templates(kube)
    with leading(kube, tmp_path) as raised:
        curated(tmp_path)
        ray_done(kube)
        kube.wait("jobsets", "clipmill-train-live")
        state = {
            "format_version": 1, "stage": "train", "status": "stopped", "message": "", "attempt": 1, "owner": "x"
        }  # fmt: skip
        (tmp_path / "run/state.json").write_text(json.dumps(state))
        done(kube, "jobsets", "clipmill-train-live")
    assert "is stopped" in str(raised[0])


def test_without_a_template_it_says_what_is_missing(kube, tmp_path):
    kube.unknown |= {"rayjobs", "jobsets", "trainjobs"}
    with leading(kube, tmp_path) as raised:
        pass
    assert isinstance(raised[0], DataError) and "plain-job" in str(raised[0])
