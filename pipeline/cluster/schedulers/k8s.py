"""Kubernetes as a scheduler, from outside of the cluster: kubectl applies an overlay that lies in the run directory.

By kubectl, since who may log in to a cluster, and how, is what its configuration says. Inside of the cluster the
pipeline Job leads the run (pipeline/cluster/k8s/reconcile.py).
"""

import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from pipeline.cluster.k8s.kinds import KINDS, Outcome
from pipeline.cluster.k8s.live import ROLE, RUN, STAGE
from pipeline.cluster.rundir import RunDir
from pipeline.cluster.schedulers import k8s_overlay as overlay
from pipeline.cluster.schedulers.scheduler import TAIL, Job, Request, Said
from pipeline.errors import ClipmillError, UsageError

TIMEOUT_S = 60.0
_STATES = {"waiting": "waiting", "running": "running", "completed": "done", "failed": "failed"}
_LINE = re.compile(r"\[([^\]]+)\] (\S+) ?(.*)")
"""A line of `kubectl logs --prefix --timestamps`: [pod/NAME/CONTAINER] TIME TEXT. Others are kubectl's own."""
_GONE_S = 420
"""Longest wait for the pipeline Job of an earlier submission to be gone; seconds."""


class KubernetesError(ClipmillError):
    """kubectl, or the server behind it, said no."""


class K8s:
    """One Job, the pipeline's, whatever the stages: `namespace/name/uid`. The stages' own objects show as jobs, too."""

    name = "k8s"

    def render(self, run: RunDir, request: Request) -> dict[str, str]:
        return overlay.files(run, request) | {"kubectl.json": json.dumps(self._flags(request)) + "\n"}

    def submit(self, run: RunDir, request: Request) -> list[Job]:
        kubectl, pipeline = Kubectl(self._flags(request)), _pipeline(run)
        # A Job cannot be changed, and another one is another submission. What it has started goes on meanwhile.
        kubectl(
            "delete", "job", pipeline, "--ignore-not-found", "--cascade=foreground", f"--timeout={_GONE_S}s",
            timeout_s=_GONE_S + TIMEOUT_S,
        )  # fmt: skip
        kubectl("apply", "-k", str(run.jobs(self.name)))
        about = json.loads(kubectl("get", "job", pipeline, "-o", "json"))["metadata"]
        return [Job(f"{about['namespace']}/{pipeline}/{about['uid']}", "+".join(request.stages), "waiting")]

    def jobs(self, run: RunDir, ids: list[str]) -> list[Job]:
        try:
            kubectl = Kubectl(_saved(run))
            found = _objects(kubectl, run)
            pods = json.loads(kubectl("get", "pods", "-l", f"{RUN}={overlay.name_of(run)}", "-o", "json"))["items"]
        except ClipmillError as error:
            return [Job(id, "", "gone", f"not known: {error}".splitlines()[0]) for id in ids]
        jobs = []
        for kind, each in found:
            about = each["metadata"]
            stage, outcome = about["labels"].get(STAGE, "pipeline"), KINDS[kind].outcome(each)
            jobs.append(Job(f"{kind}/{about['name']}", stage, _STATES[outcome.state], _reason(outcome, stage, pods)))
        return jobs or [Job(id, "", "gone") for id in ids]

    def cancel(self, run: RunDir, ids: list[str]) -> None:
        """The pipeline Job first, so that it starts nothing anew; then what it has started, whose pods save and end."""
        kubectl = Kubectl(_saved(run))
        kubectl("delete", "job", _pipeline(run), "--ignore-not-found", "--cascade=foreground", "--wait=false")
        for kind, each in _objects(kubectl, run):
            if each["metadata"]["labels"].get(ROLE) == "live":
                named = f"{KINDS[kind].resource.plural}.{KINDS[kind].resource.group}"
                name = each["metadata"]["name"]
                kubectl("delete", named, name, "--ignore-not-found", "--cascade=foreground", "--wait=false")

    def said(self, run: RunDir, ids: list[str], within_s: float | None = None) -> list[Said]:
        """Of every container of every pod that is there, the pipeline Job's first; pods that are gone say nothing."""
        words = ["--prefix", "--timestamps", "--all-containers", "--ignore-errors", f"--tail={TAIL}"]
        since = [] if within_s is None else [f"--since={math.ceil(within_s)}s"]
        text = Kubectl(_saved(run))("logs", "-l", f"{RUN}={overlay.name_of(run)}", *words, *since)
        found = [Said(*match.groups()) for line in text.split("\n") if (match := _LINE.fullmatch(line))]
        leads = f"pod/{_pipeline(run)}"
        return sorted(found, key=lambda each: (not each.source.startswith(leads), each.source))  # kubectl has no order

    def _flags(self, request: Request) -> list[str]:
        return [f"--{key}={request.options[key]}" for key in ("context", "namespace") if request.options.get(key)]


class Kubectl:
    """kubectl with the context and namespace of a run. What it prints; KubernetesError with its own words."""

    def __init__(self, flags: list[str]) -> None:
        self._flags = flags

    def __call__(self, *words: str, timeout_s: float = TIMEOUT_S) -> str:
        if shutil.which("kubectl") is None:
            raise UsageError(
                "kubectl", "is not on the PATH", "the client of Kubernetes", "install it, or ask where it is"
            )
        try:
            done = subprocess.run(
                ["kubectl", *self._flags, *words], capture_output=True, text=True, timeout=timeout_s,
                stdin=subprocess.DEVNULL, errors="replace",
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            said = f"no answer within {timeout_s:.0f} s"
            raise KubernetesError(f"kubectl {words[0]}", said, "", "kubectl cluster-info: does it answer?") from None
        if done.returncode:
            said = done.stderr.strip() or f"ended with {done.returncode}"
            raise KubernetesError(
                f"kubectl {' '.join(words[:2])}", said, "", "kubectl auth can-i create jobs; k8s/README.md"
            )
        return done.stdout


def _pipeline(run: RunDir) -> str:
    return f"clipmill-pipeline-{overlay.name_of(run)}"


def _saved(run: RunDir) -> list[str]:
    """Context and namespace that the run was submitted with."""
    path: Path = run.jobs("k8s") / "kubectl.json"
    try:
        return [str(word) for word in json.loads(path.read_text())]
    except (OSError, ValueError):
        raise UsageError(str(path), "cannot be read", "what submit has written", "submit the run again") from None


def _kinds_of(run: RunDir) -> list[str]:
    """Those that the rendered files can hold: a cluster without KubeRay has no RayJobs to ask for."""
    content = yaml.safe_load((run.jobs("k8s") / "kustomization.yaml").read_text())
    components = {Path(each).name for each in content.get("components", [])}
    if "plain-job" in components:
        return ["Job"]
    return ["RayJob", "TrainJob" if "trainer-v2" in components else "JobSet", "Job"]


def _objects(kubectl: Kubectl, run: RunDir) -> list[tuple[str, dict[str, Any]]]:
    """(kind, object) of what leads the run and of what it has started, the leader first."""
    found = []
    for kind in _kinds_of(run):
        resource = KINDS[kind].resource
        selector = f"{RUN}={overlay.name_of(run)},{ROLE} in (live,pipeline)"
        content = json.loads(kubectl("get", f"{resource.plural}.{resource.group}", "-l", selector, "-o", "json"))
        found += [(kind, each) for each in content["items"]]
    return sorted(found, key=lambda each: (each[1]["metadata"]["labels"].get(ROLE) != "pipeline", each[0]))


def _reason(outcome: Outcome, stage: str, pods: list[dict[str, Any]]) -> str:
    """In Kubernetes' words: the condition, how often all pods were started again, and what holds the pods up."""
    words = [f"{outcome.reason}: {outcome.message}".strip(": ")] if outcome.reason or outcome.message else []
    if outcome.restarts:
        words.append(f"restarts: {outcome.restarts}")
    if outcome.state != "completed":
        role = "pipeline" if stage == "pipeline" else None
        mine = [
            pod
            for pod in pods
            if role == pod["metadata"]["labels"].get(ROLE) and (role or pod["metadata"]["labels"].get(STAGE) == stage)
        ]
        words += sorted({reason for pod in mine if (reason := pod_reason(pod))})
    return "; ".join(words)


def pod_reason(pod: dict[str, Any]) -> str:
    """Why a pod does not run, or how it ended: Evicted, Unschedulable, ImagePullBackOff, Error 78; "" if well."""
    status = pod.get("status", {})
    if status.get("reason"):
        return f"{status['reason']} {status.get('message', '')}".strip()
    for each in status.get("conditions", []):
        if each["type"] == "DisruptionTarget" and each["status"] == "True":
            return f"{each.get('reason', 'disrupted')} {each.get('message', '')}".strip()
        if each["type"] == "PodScheduled" and each["status"] == "False":
            return f"{each.get('reason', '')} {each.get('message', '')}".strip()
    for each in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        waiting, ended = each["state"].get("waiting"), each["state"].get("terminated")
        if waiting and waiting.get("reason") not in ("ContainerCreating", "PodInitializing"):
            return f"{waiting.get('reason', '')} {waiting.get('message', '')}".strip()
        if ended and ended.get("exitCode"):
            return f"{ended.get('reason', 'Error')} {ended['exitCode']}"
    return ""
