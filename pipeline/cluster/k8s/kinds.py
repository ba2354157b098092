"""How each kind of object that can run a stage says where it stands. A new kind: a function and a line in KINDS."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.cluster.k8s.api import Object, Resource

CANNOT_WORK = re.compile(r"exit code (2|78)\b")
"""In the message of a Job, of a JobSet and of a RayJob: the wrapper says that trying again cannot help."""
POLICY = "PodFailurePolicy"
"""Why a Job failed, when by a rule of its pod failure policy rather than by a crash."""


@dataclass(frozen=True)
class Outcome:
    """reason, message: in Kubernetes' words. restarts: how often its pods were all started again."""

    state: Literal["waiting", "running", "completed", "failed"]
    reason: str = ""
    message: str = ""
    restarts: int = 0

    @property
    def ended(self) -> bool:
        return self.state in ("completed", "failed")

    @property
    def cannot_work(self) -> bool:
        return self.state == "failed" and CANNOT_WORK.search(self.message) is not None


@dataclass(frozen=True)
class Kind:
    """tells_exit_codes: of the wrapper, so that its 78 ends a stage by itself."""

    resource: Resource
    outcome: Callable[[Object], Outcome]
    tells_exit_codes: bool = True


def _condition(found: Object, *types: str) -> dict[str, Any] | None:
    conditions = found.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] in types and each["status"] == "True"), None)


def _by_conditions(found: Object, completed: str, restarts: int, waiting: str = "") -> Outcome:
    for state, names in (("failed", ("Failed",)), ("completed", (completed,))):
        condition = _condition(found, *names)
        if condition is not None:
            return Outcome(state, condition.get("reason", ""), condition.get("message", ""), restarts)  # type: ignore[arg-type]
    held = _condition(found, "Suspended")
    if held is not None:
        return Outcome("waiting", held.get("reason") or "Suspended", held.get("message", ""), restarts)
    return Outcome("waiting", waiting, "", restarts) if waiting else Outcome("running", restarts=restarts)


def _job(found: Object) -> Outcome:
    status, notes = found.get("status", {}), found["metadata"].get("annotations", {})
    active = status.get("ready", status.get("active", 0)) or status.get("succeeded", 0)
    waiting = "" if active else "no pod is ready"
    return _by_conditions(found, "Complete", int(notes.get("clipmill/restarts", 0)) + status.get("failed", 0), waiting)


def _job_set(found: Object) -> Outcome:
    status = found.get("status", {})
    groups = status.get("replicatedJobsStatus", [])
    ready = any(group.get("ready") or group.get("succeeded") for group in groups)
    return _by_conditions(found, "Completed", status.get("restarts", 0), "" if ready else "pods are not ready")


def _train_job(found: Object) -> Outcome:
    return _by_conditions(found, "Complete", 0)


def _ray_job(found: Object) -> Outcome:
    """A RayJob has no conditions: jobDeploymentStatus tells of the cluster, jobStatus of the command in it."""
    status = found.get("status", {})
    cluster, command = status.get("jobDeploymentStatus", ""), status.get("jobStatus", "")
    reason, message, restarts = status.get("reason", ""), status.get("message", ""), status.get("failed", 0)
    if cluster == "Complete" and command == "SUCCEEDED":
        return Outcome("completed", reason, message, restarts)
    if cluster == "Failed" or (cluster == "Complete" and command in ("FAILED", "STOPPED")):
        return Outcome("failed", reason or command, message, restarts)
    if command == "RUNNING":
        return Outcome("running", restarts=restarts)
    return Outcome("waiting", reason or cluster or "not seen yet by KubeRay", message, restarts)


KINDS = {
    "RayJob": Kind(Resource("RayJob", "ray.io", "v1", "rayjobs"), _ray_job, tells_exit_codes=False),
    "JobSet": Kind(Resource("JobSet", "jobset.x-k8s.io", "v1alpha2", "jobsets"), _job_set),
    "TrainJob": Kind(Resource("TrainJob", "trainer.kubeflow.org", "v1alpha1", "trainjobs"), _train_job),
    "Job": Kind(Resource("Job", "batch", "v1", "jobs"), _job),
}
