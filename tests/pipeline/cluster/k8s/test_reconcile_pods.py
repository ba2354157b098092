"""The rendered JobSet and Indexed Job, run: each index a pod in namespaces, the image's entrypoint its process 1.

What was lost on the way is in `restarts`, what counted in `counted`; the training is real, two nodes over gloo.
"""

import json
import threading
from pathlib import Path

import pytest
import yaml

from pipeline.cluster.k8s.api import ApiServer
from pipeline.cluster.k8s.live import live_copy
from pipeline.cluster.k8s.reconcile import Chain
from pipeline.cluster.rundir import RunDir, attempts, create, read_state
from pipeline.cluster.schedulers import Request
from pipeline.cluster.schedulers.k8s import K8s
from pipeline.recipe import load
from tests.helpers import podsim, tiny_run
from tests.helpers.kube_api import kube_api
from tests.helpers.kustomized import only, render
from tests.helpers.podsim import PodSim

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(podsim.missing()), reason=podsim.missing()),
]
VARIABLES = {
    "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "GLOO_SOCKET_IFNAME": "eth0", "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}  # fmt: skip


def submitted(tmp_path: Path, kinds: str = "", **train) -> tuple[RunDir, list[dict]]:
    """A run directory, and what `submit --on k8s` renders for it, two nodes without GPUs."""
    settings = {"steps": 160, "checkpoint": {"every_steps": 20}, **train}
    run = create(tmp_path / "r1", load(str(tiny_run.write_recipe(tmp_path, **settings))))
    wanted = Request(
        ("train",), 2, 0, {"image": "clipmill:test", "run-dir": str(run.path), "with": kinds, "memory": "2Gi"}
    )
    for name, text in K8s().render(run, wanted).items():
        (run.jobs("k8s") / name).parent.mkdir(parents=True, exist_ok=True)
        (run.jobs("k8s") / name).write_text(text)
    return run, render(run.jobs("k8s"))


def live(objects: list[dict], kind: str = "JobSet", **policy) -> dict:
    template = only(objects, kind, "train")
    template["metadata"]["uid"] = "u"
    found = live_copy(template, "p1")
    if kind == "JobSet":
        found["spec"]["failurePolicy"] |= policy
    return found


def output(run: RunDir) -> Path:
    return Path(yaml.safe_load(run.recipe.read_text())["train"]["output"])


def reached(run: RunDir, step: int):
    def there() -> bool:
        path = output(run) / "metrics.jsonl"
        return path.exists() and any(
            json.loads(line)["step"] >= step for line in path.read_text().splitlines() if line[-1:] == "}"
        )

    return there


def steps_logged(run: RunDir) -> list[int]:
    return [row["step"] for row in tiny_run.metrics(output(run))]


def test_a_pod_killed_and_a_pod_evicted_are_survived_one_counted_one_not(tmp_path):
    run, objects = submitted(tmp_path)
    with PodSim(tmp_path / "sim", objects, **VARIABLES) as sim, sim.running(live(objects)) as result:
        sim.wait_for(reached(run, 25))
        first = [pod.address for pod in sim.pods]
        _is_a_good_init(sim.pod(0))
        probe = only(objects, "JobSet")["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
        words = probe["containers"][0]["livenessProbe"]["exec"]["command"]
        environ = ["env", f"CLIPMILL_RUN_DIR={run.path}"]
        assert sim.pod(0).run(*environ, *words).returncode == 0
        sim.pod(1).kill()
        sim.wait_for(lambda: result.restarts == 1)
        assert result.counted == 1 and result.generations[0][1] == 137
        seen = max(steps_logged(run))
        sim.wait_for(reached(run, seen + 25))
        assert not {pod.address for pod in sim.pods} & set(first)  # nobody relies on an address of before
        sim.pod(1).evict()
        sim.wait_for(lambda: result.restarts == 2)
        assert result.generations[1] == {0: 75, 1: 75}  # the node that was not evicted saved, too
        state = read_state(run)
        assert state is not None and state.step == max(steps_logged(run)) + 1  # nothing to do again
    assert (result.state, result.restarts, result.counted) == ("completed", 2, 1), sim.said()
    state = read_state(run)
    assert state is not None and (state.status, state.step) == ("completed", 160)
    assert [each["nodes"] for each in attempts.events(run) if each["event"] == "start"] == [2, 2, 2]


def _is_a_good_init(pod) -> None:
    """The wrapper is process 1 of its pod and reaps what others leave behind."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pod.init}/status").read_text().splitlines())
    assert status["NSpid"].split()[-1] == "1"
    words = Path(f"/proc/{pod.init}/cmdline").read_bytes().split(b"\0")
    assert b"node" in words and b"train" in words
    assert pod.run("hostname").stdout.strip() == "clipmill-train-r1-live-node-0-0"
    pod.run("sh", "-c", "(sleep 0.2; exit 3) & exit 0")
    left = pod.run("sh", "-c", "sleep 1.5; grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null").stdout
    assert left == "", left


def test_what_cannot_work_is_not_started_again(tmp_path):
    run, objects = submitted(tmp_path, data=[str(tmp_path / "nowhere")])
    with PodSim(tmp_path / "sim", objects, **VARIABLES) as sim, sim.running(live(objects)) as result:
        pass
    assert (result.state, result.restarts) == ("failed", 0), sim.said()
    assert "exit code 78" in result.message and len(result.generations) == 1
    state = read_state(run)
    assert state is not None and state.fault in ("config", "data")


def test_a_generation_that_lives_on_beside_the_next_commits_nothing(tmp_path):
    """Nodes that hang, are given up for lost, and wake up when the next attempt has begun."""
    run, objects = submitted(tmp_path)
    jobset = live(objects, restartStrategy="Recreate")
    with PodSim(tmp_path / "sim", objects, **VARIABLES) as sim, sim.running(jobset) as result:
        sim.wait_for(reached(run, 25))
        old = list(sim.pods)
        for pod in old:
            pod.freeze()
            pod.disrupted = pod.lost = True
        sim.wait_for(lambda: any(each["event"] == "start" and each["attempt"] == 2 for each in attempts.events(run)))
        for pod in old:
            pod.thaw()
        sim.wait_for(lambda: all(pod.exit_code() is not None for pod in old))
        assert {pod.exit_code() for pod in old} == {78}
    assert (result.state, result.restarts) == ("completed", 1), sim.said()
    ends = {each["attempt"]: each for each in attempts.events(run) if each["event"] == "end"}
    assert ends[2]["status"] == "completed" and "taken over" in sim.said()
    state = read_state(run)
    assert state is not None and (state.attempt, state.step) == (2, 160)


def test_an_indexed_job_is_started_again_as_a_whole_by_the_pipeline_job(tmp_path):
    """The overlay plain-job: the API server is played over HTTP, the pods and the chain are real."""
    run, objects = submitted(tmp_path, "plain-job")
    raised: list[BaseException] = []
    with kube_api() as kube, PodSim(tmp_path / "sim", objects, **VARIABLES) as sim:
        kube.denied |= {"jobsets", "rayjobs", "trainjobs"}
        kube.put("jobs", only(objects, "Job", "train"))
        api = ApiServer(kube.url, "ns")

        def lead() -> None:
            try:
                Chain(api, run, "r1", "p1", watch_s=1, pause_s=0.05).lead()
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=lead)
        thread.start()
        uid, reasons = "", []
        for step in (25, 60, None):
            job = kube.wait("jobs", "clipmill-train-r1-live", 60, uid_is_not=uid)
            uid = job["metadata"]["uid"]
            with sim.running(job) as result:
                if step is not None:
                    sim.wait_for(reached(run, step))
                    sim.pod(0).kill() if step == 25 else sim.pod(0).evict()
            reasons.append(result.reason)
            ended = "Failed" if result.reason else "Complete"
            condition = {"type": ended, "status": "True", "reason": result.reason, "message": result.message}
            kube.status("jobs", "clipmill-train-r1-live", conditions=[condition])
        notes = kube.objects["jobs", "clipmill-train-r1-live"]["metadata"]["annotations"]
        thread.join(60)
    assert raised == [] and reasons == ["BackoffLimitExceeded", "PodFailurePolicy", ""], sim.said()
    assert (notes["clipmill/crashes"], notes["clipmill/restarts"]) == ("1", "2")
    state = read_state(run)
    assert state is not None and (state.status, state.step) == ("completed", 160)
