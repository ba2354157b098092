"""The copy of a template that runs, made from what the server gives back."""

import copy

import pytest

from pipeline.cluster.k8s.live import KUEUE, ROLE, live_copy
from tests.helpers.kube_schemas import checked
from tests.helpers.kustomized import only, overlay


def as_served(found: dict) -> dict:
    """With what a server fills in."""
    found = copy.deepcopy(found)
    found["metadata"] |= {
        "uid": "t",
        "resourceVersion": "7",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "generation": 1,
    }
    found["metadata"].setdefault("annotations", {})["kubectl.kubernetes.io/last-applied-configuration"] = "{}"
    found["status"] = {"conditions": [{"type": "Suspended", "status": "True"}]}
    if found["kind"] == "Job":
        own = {
            "batch.kubernetes.io/controller-uid": "t",
            "controller-uid": "t",
            "batch.kubernetes.io/job-name": "x",
            "job-name": "x",
        }
        found["spec"]["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": "t"}}
        found["spec"]["template"]["metadata"]["labels"] |= own
    return found


@pytest.mark.parametrize(
    ("name", "kind", "stage"),
    [
        ("kueue", "JobSet", "train"), ("kueue", "RayJob", "curate"), ("kueue", "Job", "eval"),
        ("infiniband", "JobSet", "train"), ("plain-job", "Job", "train"), ("trainer-v2", "TrainJob", "train"),
    ],
)  # fmt: skip
def test_a_copy_is_an_object_of_its_own_that_runs(name, kind, stage):
    template = only(overlay(name), kind, stage)
    found = live_copy(as_served(template), "p1", {"clipmill/restarts": "2"})
    checked(found)
    queue = template["metadata"].get("annotations", {}).get("clipmill/queue")
    assert found["metadata"]["labels"].get(KUEUE) == queue and found["metadata"]["labels"][ROLE] == "live"
    assert found["spec"]["suspend"] is (queue is not None)  # Kueue lets it go
    assert found["metadata"]["annotations"] == {"clipmill/pipeline": "p1", "clipmill/restarts": "2"}
    assert found["metadata"]["ownerReferences"][0]["uid"] == "t"
    assert not {"uid", "resourceVersion", "generation"} & set(found["metadata"]) and "status" not in found
    assert "managedBy" not in found["spec"] and "selector" not in found["spec"]
    same = {key: value for key, value in template["spec"].items() if key not in ("suspend", "managedBy")}
    assert {key: value for key, value in found["spec"].items() if key != "suspend"} == same
