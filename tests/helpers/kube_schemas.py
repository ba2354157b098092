"""Strict JSON Schemas of every kind that k8s/ has: a field that is not in them is a fault, at any depth.

Kinds of Kubernetes itself: those of the package kubernetes-validate (from Kubernetes' own OpenAPI). JobSet, TrainJob
and TrainingRuntime: made here from the models of the package kubeflow-trainer-api, which its authors generate from the
same types as the CRDs. RayJob: no package carries its CRD, so the part that k8s/ uses is written down here by hand
after KubeRay's API types (ray-operator/apis/ray/v1, 1.5); pod templates in all of them are Kubernetes' own.
What these cannot say (rules over several fields, defaults of webhooks) is in tests/helpers/kube_rules.py.
"""

import functools
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

VERSION = "1.37"
OLDEST = "1.31"
"""The oldest Kubernetes that the files are for: podReplacementPolicy, job-index labels."""
_API = "https://kubernetes.io/api/_definitions.json#/$defs/"
_POD_TEMPLATE = {"$ref": f"{_API}io.k8s.api.core.v1.PodTemplateSpec"}
# Enumerations of the CRDs, which the models show as any text.
_ENUMS = {
    ("JobsetV1alpha2FailurePolicyRule", "action"): [
        "FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts", "RestartJob",
        "RestartJobAndIgnoreMaxRestarts",
    ],
    ("JobsetV1alpha2FailurePolicy", "restartStrategy"): ["Recreate", "BlockingRecreate", "InPlaceRestart"],
    ("JobsetV1alpha2DependsOn", "status"): ["Ready", "Complete"],
}  # fmt: skip
_MODELS = {
    "JobSet": ("jobset_v1alpha2_job_set", "JobsetV1alpha2JobSet", "jobset.x-k8s.io/v1alpha2"),
    "TrainJob": ("trainer_v1alpha1_train_job", "TrainerV1alpha1TrainJob", "trainer.kubeflow.org/v1alpha1"),
    "TrainingRuntime": (
        "trainer_v1alpha1_training_runtime", "TrainerV1alpha1TrainingRuntime", "trainer.kubeflow.org/v1alpha1"
    ),
}  # fmt: skip


def _strict(properties: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_NUMBER, _TEXT, _FLAG = {"type": "integer", "minimum": 0}, {"type": "string"}, {"type": "boolean"}
_HEAD = {
    "serviceType": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "enableIngress": _FLAG,
    "rayStartParams": _TEXTS,
    "template": _POD_TEMPLATE,
}
_WORKERS = {
    "groupName": _TEXT, "replicas": _NUMBER, "minReplicas": _NUMBER, "maxReplicas": _NUMBER, "numOfHosts": _NUMBER,
    "suspend": _FLAG, "idleTimeoutSeconds": _NUMBER, "rayStartParams": _TEXTS, "template": _POD_TEMPLATE,
}  # fmt: skip
_CLUSTER = {
    "rayVersion": {"type": "string", "pattern": r"^[0-9]+\.[0-9]+\.[0-9]+$"},
    "headGroupSpec": _strict(_HEAD, ("template",)),
    "workerGroupSpecs": {"type": "array", "items": _strict(_WORKERS, ("groupName", "template"))},
    "enableInTreeAutoscaling": _FLAG,
    "headServiceAnnotations": _TEXTS,
}
_RAY_JOB = {
    "suspend": _FLAG, "entrypoint": _TEXT, "runtimeEnvYAML": _TEXT, "metadata": _TEXTS, "jobId": _TEXT,
    "submissionMode": {"enum": ["K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"]},
    "submitterConfig": _strict({"backoffLimit": _NUMBER}), "submitterPodTemplate": _POD_TEMPLATE,
    "backoffLimit": _NUMBER, "activeDeadlineSeconds": _NUMBER, "ttlSecondsAfterFinished": _NUMBER,
    "shutdownAfterJobFinishes": _FLAG, "managedBy": {"enum": ["ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"]},
    "entrypointNumCpus": {"type": "number"}, "entrypointNumGpus": {"type": "number"}, "entrypointResources": _TEXT,
    "rayClusterSpec": _strict(_CLUSTER, ("headGroupSpec",)),
}  # fmt: skip


def _object(api_version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    about = {"$ref": f"{_API}io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
    return _strict(
        {"apiVersion": {"const": api_version}, "kind": {"const": kind}, "metadata": about, "spec": spec},
        ("apiVersion", "kind", "metadata", "spec"),
    )


@functools.cache
def _kubernetes() -> tuple[dict[str, Any], Any]:
    """(Kubernetes' strict definitions, a registry with them)."""
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="needs the package kubernetes-validate")
    from kubernetes_validate.utils import all_versions, schema_contents
    from referencing import Registry, Resource

    newest = [each for each in all_versions() if each.startswith(VERSION)][-1]
    content = schema_contents(f"kubernetes-json-schema/v{newest}-local-strict/_definitions.json", VERSION)
    assert kubernetes_validate
    return content, Resource.from_contents(content) @ Registry()


def _of_model(module: str, name: str) -> dict[str, Any]:
    """The schema of a model, made strict; what Kubernetes defines itself is taken from Kubernetes."""
    models = pytest.importorskip(f"kubeflow_trainer_api.models.{module}", reason="needs kubeflow-trainer-api")
    schema = getattr(models, name).model_json_schema(by_alias=True)
    known = {re.sub(r"\W", "", key).lower(): key for key in _kubernetes()[0]["$defs"]}
    defs = {}
    for key, content in schema.pop("$defs").items():
        native = known.get(key.lower())
        if native is not None:
            defs[key] = {"$ref": f"{_API}{native}"}
            continue
        assert not key.startswith("IoK8s"), f"{key} is not in Kubernetes {VERSION}"
        for (owner, field), values in _ENUMS.items():
            if owner == key:
                content["properties"][field] = {"enum": values}
        defs[key] = {**content, "additionalProperties": False}
    text = json.dumps({**schema, "additionalProperties": False, "$defs": defs})
    return {**json.loads(text), "required": ["apiVersion", "kind", "metadata", "spec"]}


@functools.cache
def _custom(kind: str) -> Any:
    from jsonschema.validators import Draft202012Validator

    if kind == "RayJob":
        schema = _object("ray.io/v1", kind, _strict(_RAY_JOB, ("entrypoint", "rayClusterSpec")))
    else:
        module, name, api_version = _MODELS[kind]
        schema = _of_model(module, name)
        schema["properties"]["apiVersion"] = {"const": api_version}
    return Draft202012Validator(schema, registry=_kubernetes()[1])


@functools.cache
def _with_files_read_once() -> Any:
    """kubernetes-validate reads megabytes of definitions for every object: a second each, here once."""
    package = pytest.importorskip("kubernetes_validate", reason="needs the package kubernetes-validate")
    package.utils.schema_contents = functools.cache(package.utils.schema_contents)
    return package


def checked(found: dict[str, Any], version: str = VERSION) -> str:
    """The kind by whose schema it was found right. ValidationError otherwise; KeyError for a kind without a schema."""
    kind = found["kind"]
    if kind in ("RayJob", *_MODELS):
        _kubernetes()
        _custom(kind).validate(found)
        return kind
    kubernetes_validate = _with_files_read_once()
    try:
        kubernetes_validate.validate(found, version, strict=True)
    except kubernetes_validate.utils.SchemaNotFoundError as error:
        raise KeyError(f"no schema for {found['apiVersion']} {kind}") from error
    return kind


FREE = {
    "labels",
    "annotations",
    "matchLabels",
    "limits",
    "requests",
    "data",
    "rayStartParams",
    "selector",
    "nodeSelector",
}
"""Mappings whose keys are anybody's."""


def with_a_typo(found: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(where, the same object but for one key, which is misspelt) for every key whose name is not free."""
    if isinstance(found, dict):
        for key, value in found.items():
            if path.rpartition(".")[2] not in FREE:
                yield f"{path}.{key}", {(f"{name}x" if name == key else name): each for name, each in found.items()}
                for where, changed in with_a_typo(value, f"{path}.{key}"):
                    yield where, {**found, key: changed}
    elif isinstance(found, list):
        for at, value in enumerate(found):
            for where, changed in with_a_typo(value, f"{path}.{at}"):
                yield where, [*found[:at], changed, *found[at + 1 :]]
