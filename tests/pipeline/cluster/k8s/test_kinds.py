"""Where an object stands, as its controller writes it."""

import pytest

from pipeline.cluster.k8s.kinds import CANNOT_WORK, KINDS, Outcome


def of(kind: str, **status) -> Outcome:
    return KINDS[kind].outcome({"metadata": {"name": "x"}, "status": status})


def met(kind: str, **more) -> dict:
    return {"type": kind, "status": "True", "reason": "R", "message": "m", **more}


@pytest.mark.parametrize(("kind", "done"), [("Job", "Complete"), ("JobSet", "Completed"), ("TrainJob", "Complete")])
def test_kinds_with_conditions(kind, done):
    assert of(kind, conditions=[met(done)]).state == "completed"
    assert of(kind, conditions=[met("Failed")]) == Outcome("failed", "R", "m")
    assert of(kind, conditions=[met(done, status="False"), met("Failed", status="False")]).state != "completed"
    assert of(kind, conditions=[met("Suspended")]).state == "waiting"
    assert of(kind, conditions=[met("Suspended", status="False")]).ended is False
    assert of(kind, conditions=[met("FailureTarget")]).ended is False  # its pods have not all ended yet


def test_pods_that_are_not_ready_are_waited_for():
    assert of("Job", active=2, ready=0).state == "waiting" and of("Job", active=2, ready=2).state == "running"
    group = {"name": "node", "ready": 0, "succeeded": 0}
    assert of("JobSet", replicatedJobsStatus=[group]).state == "waiting"
    assert of("JobSet", replicatedJobsStatus=[{**group, "ready": 1}], restarts=3) == Outcome("running", restarts=3)


@pytest.mark.parametrize(
    ("cluster", "command", "state"),
    [
        ("", "", "waiting"), ("Initializing", "", "waiting"), ("Suspended", "", "waiting"),
        ("Running", "PENDING", "waiting"),
        ("Running", "RUNNING", "running"), ("Running", "SUCCEEDED", "waiting"), ("Retrying", "FAILED", "waiting"),
        ("Complete", "SUCCEEDED", "completed"), ("Complete", "FAILED", "failed"), ("Complete", "STOPPED", "failed"),
        ("Failed", "FAILED", "failed"), ("Failed", "", "failed"),
    ],
)  # fmt: skip
def test_a_ray_job_is_done_only_when_its_command_succeeded(cluster, command, state):
    assert of("RayJob", jobDeploymentStatus=cluster, jobStatus=command).state == state


def test_exit_codes_that_no_retry_helps_are_read_from_messages():
    for code in (2, 78):
        assert CANNOT_WORK.search(f"Container node for pod ns/p failed with exit code {code} matching FailJob rule")
        assert CANNOT_WORK.search(f"Job entrypoint command failed with exit code {code}, last available logs")
    for code in (1, 20, 71, 75, 137, 143, 178, 255):
        assert not CANNOT_WORK.search(f"failed with exit code {code} matching")
