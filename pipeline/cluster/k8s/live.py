"""A stage in a cluster is a template, which is never run, and a copy of it, which is: made, deleted, made again.

So `kubectl apply -k` changes only what the next copy will be and disturbs none that runs; and overlays patch the
template as what it is, a RayJob or a JobSet.
"""

import copy
from collections.abc import Mapping

from pipeline.cluster.k8s.api import ApiError, ApiServer, Object
from pipeline.cluster.k8s.kinds import KINDS, Kind
from pipeline.errors import DataError

ROLE, STAGE, RUN = "clipmill/role", "clipmill/stage", "clipmill/run"
QUEUE, KUEUE = "clipmill/queue", "kueue.x-k8s.io/queue-name"
PIPELINE, CRASHES, RESTARTS = "clipmill/pipeline", "clipmill/crashes", "clipmill/restarts"
"""Annotations of a copy: the pipeline Job that made it; how often its stage was started again, for crashes and in all.
"""
MAX_RESTARTS = "clipmill/max-restarts"
"""Annotation of a template that does not start itself again as a whole: after how many crashes its stage is given up.
"""
MANAGED_BY = "clipmill/template"
_OF_THE_JOB = ("controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name")


def name_of(template: Object) -> str:
    return f"{template['metadata']['name']}-live"


def find_template(api: ApiServer, run: str, stage: str) -> tuple[Kind, Object]:
    """The one template of a stage. DataError where there is none, or more than one."""
    labels = {RUN: run, STAGE: stage, ROLE: "template"}
    found, unknown = [], []
    for kind in KINDS.values():
        try:
            found += [(kind, each) for each in api.list(kind.resource, labels)]
        except ApiError as error:  # the Role names only the kinds of this overlay
            if error.status != 403:
                raise
            unknown.append(kind.resource.kind)
    if len(found) != 1:
        names = ", ".join(f"{each['kind']} {each['metadata']['name']}" for _, each in found) or "none"
        without = f" (may not look for {', '.join(unknown)})" if unknown else ""
        expected = f"one object with the labels {', '.join(f'{key}={value}' for key, value in labels.items())}"
        hint = "kubectl apply -k the overlay again; are JobSet and KubeRay installed? else take the overlay plain-job"
        raise DataError(f"stage {stage}", f"found {names}{without}", expected, hint)
    return found[0]


def live_copy(template: Object, pipeline: str, notes: Mapping[str, str] | None = None) -> Object:
    """What is created to run a template: not suspended, in its queue, and gone when the template is deleted.

    The server has filled in much of a template by the time it is read; what belongs to that one object goes again.
    """
    wanted = copy.deepcopy({key: template[key] for key in ("apiVersion", "kind", "spec")})
    about = template["metadata"]
    labels = {**about.get("labels", {}), ROLE: "live"}
    queue = about.get("annotations", {}).get(QUEUE)
    if queue:
        labels[KUEUE] = queue
    wanted["metadata"] = {
        "name": name_of(template),
        "labels": labels,
        "annotations": {PIPELINE: pipeline, **(notes or {})},
        "ownerReferences": [
            {"apiVersion": template["apiVersion"], "kind": template["kind"], "name": about["name"], "uid": about["uid"]}
        ],
    }
    spec = wanted["spec"]
    spec["suspend"] = bool(queue)  # Kueue starts it when there is room
    if spec.get("managedBy") == MANAGED_BY:
        del spec["managedBy"]
    if wanted["kind"] == "Job":
        spec.pop("selector", None)
        labels_of_pods = spec["template"].get("metadata", {}).get("labels", {})
        for label in _OF_THE_JOB:
            labels_of_pods.pop(label, None)
    return wanted
