"""The files of `submit --on k8s`: k8s/base and components as they are, and one overlay that says what this run is.

    kubectl apply -k <run>/k8s

does what `submit` does. The same request gives the same bytes. What a cluster has that no option names is changed in
k8s/ itself, or in the files here before they are applied by hand.
"""

import functools
import hashlib
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from pipeline import outputs
from pipeline.cluster.rundir import STAGES, RunDir
from pipeline.cluster.rundir.create import load
from pipeline.cluster.rundir.paths import OUTPUTS
from pipeline.cluster.schedulers.scheduler import Request
from pipeline.errors import RecipeError, UsageError

COMPONENTS = ("plain-job", "trainer-v2", "kueue", "infiniband", "object-store")
"""In the order in which they are put together: what takes the place of the JobSet first."""
OPTIONS = {
    "image": "REGISTRY/clipmill:TAG, which every pod runs; needed",
    "with": f"components of k8s/, with commas: {', '.join(COMPONENTS)}",
    "namespace": "default: that of kubectl's context",
    "context": "of kubectl's configuration",
    "claim": "an existing claim that many nodes may mount, at /data (clipmill-data)",
    "run-dir": "the run directory as pods see it; default: /data/runs/<its name>",
    "queue": "of Kueue, for all stages; with=kueue",
    "cpus": "of a training pod",
    "memory": "of a training pod, such as 512Gi",
}
_SET = "/spec/replicatedJobs/0/template/spec"
_NODES = {  # kind that trains -> the spec of its Job
    "JobSet": _SET,
    "Job": "/spec",
    "TrainingRuntime": f"/spec/template{_SET}",
}
_PODS = {  # kind -> the pod specs in it
    "Job": ["/spec/template/spec"],
    "JobSet": [f"{_SET}/template/spec"],
    "TrainingRuntime": [f"/spec/template{_SET}/template/spec"],
    "RayJob": [f"/spec/rayClusterSpec/{group}/template/spec" for group in ("headGroupSpec", "workerGroupSpecs/0")],
}  # fmt: skip
_KINDS = {"curate": "RayJob", "reinforce": "Job", "train": "JobSet", "eval": "Job"}
_APIS = {
    "RayJob": "ray.io/v1", "JobSet": "jobset.x-k8s.io/v1alpha2", "Job": "batch/v1", "Service": "v1",
    "TrainJob": "trainer.kubeflow.org/v1alpha1", "TrainingRuntime": "trainer.kubeflow.org/v1alpha1",
}  # fmt: skip
MOST = 24
"""Characters of a run's name in the names of objects: pods add theirs, up to 63 in all."""

Patch = dict[str, Any]


def name_of(run: RunDir) -> str:
    """The run's name as part of an object's name: its id, or as much of it as fits and a digest of the whole."""
    plain = re.sub(r"[^a-z0-9]+", "-", run.id.lower()).strip("-")
    if plain == run.id and len(plain) <= MOST:
        return plain
    digest = hashlib.sha256(run.id.encode()).hexdigest()[:6]
    return f"{plain[: MOST - 7].strip('-')}-{digest}".strip("-")


def files(run: RunDir, request: Request) -> dict[str, str]:
    """UsageError for an option that there is not, or that does not fit another one."""
    options = _options(request)
    wanted = [each for each in COMPONENTS if each in options.get("with", "").split(",")]
    found = {f"base/{path.name}": path.read_text() for path in sorted((_shipped() / "base").iterdir())}
    for each in wanted:
        found |= {
            f"components/{each}/{path.name}": path.read_text()
            for path in sorted((_shipped() / "components" / each).iterdir())
        }
    inside = options.get("run-dir") or f"/data/runs/{run.id}"
    found[outputs.RECIPE] = _recipe(run, inside)
    about = "# Of one run, written by clipmill submit; kubectl apply -k on this folder does what submit does.\n"
    content = _kustomization(run, request, options, wanted, inside)
    found["kustomization.yaml"] = about + yaml.safe_dump(content, sort_keys=False, width=1000)
    return found


def _options(request: Request) -> dict[str, str]:
    options = dict(request.options)
    for key in options:
        if key not in OPTIONS:
            raise UsageError("--option", f"found {key}", f"one of {', '.join(OPTIONS)}", "k8s/README.md")
    for each in filter(None, options.get("with", "").split(",")):
        if each not in COMPONENTS:
            raise UsageError(
                "--option with", f"found {each}", f"some of {', '.join(COMPONENTS)}", "with=plain-job,kueue"
            )
    if not options.get("image"):
        hint = "docker build -f k8s/Dockerfile ..., push it, then --option image=REGISTRY/clipmill:TAG"
        raise UsageError("--option image", "is not given", "the image that every pod runs", hint)
    if "plain-job" in options.get("with", "") and "trainer-v2" in options.get("with", ""):
        raise UsageError("--option with", "found plain-job and trainer-v2", "one of the two", "leave one out")
    return options


@functools.cache
def _shipped() -> Path:
    """k8s/ of a checkout, or as it was installed."""
    for root in (Path(__file__).parents[3], Path(sys.prefix) / "share/clipmill"):
        if (root / "k8s/base/kustomization.yaml").exists():
            return root / "k8s"
    raise UsageError(
        "k8s/", "is not beside the package", "its base and components", "install from a checkout: pip install ."
    )


def _recipe(run: RunDir, inside: str) -> str:
    """The frozen recipe with the run directory as pods see it."""
    text = load(run).as_yaml()
    here = str(run.path)
    if here != inside:
        text = re.sub(rf"{re.escape(here)}(?=[/'\"\s]|$)", inside, text)
    recipe = load(run).data
    for stage in OUTPUTS:
        output = (recipe.get(stage) or {"output": inside}).get("output")
        if not isinstance(output, str) or not ("://" in output or output.startswith("/")):
            found, hint = f"found {output!r}", f"{stage}.output={inside}/{stage}, or leave it out"
            raise RecipeError(
                f"{run.recipe}: {stage}.output", found, "a path from / or a URL: pods share no folder", hint
            )
    return text


def _kustomization(
    run: RunDir, request: Request, options: dict[str, str], wanted: list[str], inside: str
) -> dict[str, Any]:
    name, digest, tag = _image(options["image"])
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        **({"namespace": options["namespace"]} if options.get("namespace") else {}),
        "nameSuffix": f"-{name_of(run)}",
        "resources": ["base"],
        "components": [f"components/{each}" for each in wanted],
        "labels": [{"pairs": {"clipmill/run": name_of(run)}, "includeTemplates": True, "fields": _labels()}],
        "images": [{"name": "clipmill", "newName": name, **({"digest": digest} if digest else {"newTag": tag})}],
        "generatorOptions": {"disableNameSuffixHash": True},
        "configMapGenerator": [
            {"name": "clipmill-env", "behavior": "merge", "literals": [f"CLIPMILL_RUN_DIR={inside}"]},
            {"name": "clipmill-recipe", "behavior": "replace", "files": [outputs.RECIPE]},
        ],
        "patches": _patches(request, options, wanted),
    }


def _labels() -> list[dict[str, str]]:
    """Where kinds that kustomize does not know have the labels of their pods."""
    return [
        {"kind": kind, "path": f"{re.sub(r'/[0-9]+(?=/)', '', path).removesuffix('/spec').lstrip('/')}/metadata/labels"}
        for kind, paths in _PODS.items() if kind != "Job" for path in paths
    ]  # fmt: skip


def _image(image: str) -> tuple[str, str, str]:
    """(name, digest or "", tag)."""
    name, _, digest = image.partition("@")
    if digest:
        return name, digest, ""
    host, _, last = name.rpartition("/")
    plain, _, tag = last.partition(":")
    if not tag:
        hint = "another image under the same name would be another run"
        raise UsageError("--option image", f"found {image}", "a tag or a digest", hint)
    return f"{host}/{plain}" if host else plain, "", tag


def _patches(request: Request, options: dict[str, str], wanted: list[str]) -> list[Patch]:
    kinds = dict(_KINDS)
    if "plain-job" in wanted:
        kinds |= {"curate": "Job", "train": "Job"}
    if "trainer-v2" in wanted:
        kinds["train"] = "TrainJob"
    patches = [_without("v1", "PersistentVolumeClaim", "clipmill-data")]  # it is there, and outlives every run
    for stage in STAGES:
        if stage not in request.stages:
            patches.append(_without(_APIS[kinds[stage]], kinds[stage], f"clipmill-{stage}"))
    if "train" not in request.stages:
        more = {"trainer-v2": "TrainingRuntime", "plain-job": "Service"}
        patches += [_without(_APIS[kind], kind, "clipmill-train") for each, kind in more.items() if each in wanted]
    claim = options.get("claim", "clipmill-data")
    if claim != "clipmill-data":
        for kind, paths in _PODS.items():
            patches.append(
                _changed(kind, None, [(f"{path}/volumes/0/persistentVolumeClaim/claimName", claim) for path in paths])
            )
    if options.get("queue"):
        for kind in dict.fromkeys(kinds.values()):
            patches.append(
                _changed(
                    kind, None, [("/metadata/annotations/clipmill~1queue", options["queue"])], "clipmill/role=template"
                )
            )
    if "train" in request.stages:
        patches += _sizes(request, options, kinds["train"])
    return patches


def _sizes(request: Request, options: dict[str, str], kind: str) -> list[Patch]:
    patches = []
    if kind == "TrainJob":
        patches.append(_changed(kind, "clipmill-train", [("/spec/trainer/numNodes", request.nodes)]))
        kind = "TrainingRuntime"
    root = _NODES[kind]
    container = f"{root}/template/spec/containers/0"
    changes: list[tuple[str, Any]] = [
        (f"{root}/parallelism", request.nodes),
        (f"{root}/completions", request.nodes),
        (f"{container}/env/0/value", str(request.nodes)),
    ]
    if kind == "TrainingRuntime":
        changes.append(("/spec/mlPolicy/numNodes", request.nodes))
    for key, value in (("cpu", options.get("cpus")), ("memory", options.get("memory"))):
        if value:
            changes += [(f"{container}/resources/{part}/{key}", value) for part in ("requests", "limits")]
    if options.get("memory"):
        changes.append((f"{root}/template/spec/volumes/1/emptyDir/sizeLimit", _share(options["memory"])))
    gpus = request.gpus_per_node
    if gpus:
        changes += [(f"{container}/resources/{part}/nvidia.com~1gpu", str(gpus)) for part in ("requests", "limits")]
    patches.append(_changed(kind, "clipmill-train", changes))
    if gpus == 0:
        removed = [
            {"op": "remove", "path": f"{container}/resources/{part}/nvidia.com~1gpu"} for part in ("requests", "limits")
        ]
        patches.append({"target": {"kind": kind, "name": "clipmill-train"}, "patch": _text(removed)})
        alone = [
            {**each, "path": each["path"].replace(container, "/spec/template/spec/containers/0")} for each in removed
        ]
        for stage in (each for each in ("reinforce", "eval") if each in request.stages):
            patches.append({"target": {"kind": "Job", "name": f"clipmill-{stage}"}, "patch": _text(alone)})
    return patches


def _share(memory: str) -> str:
    """An eighth of a pod's memory, for /dev/shm."""
    match = re.fullmatch(r"([1-9][0-9]*)(Mi|Gi|Ti)", memory)
    if match is None:
        raise UsageError("--option memory", f"found {memory}", "a whole number of Mi, Gi or Ti", "memory=512Gi")
    return f"{int(match[1]) * {'Mi': 1, 'Gi': 1 << 10, 'Ti': 1 << 20}[match[2]] // 8}Mi"


def _changed(kind: str, name: str | None, changes: list[tuple[str, Any]], labels: str = "") -> Patch:
    target = {"kind": kind, **({"name": name} if name else {}), **({"labelSelector": labels} if labels else {})}
    return {
        "target": target,
        "patch": _text([{"op": "replace", "path": path, "value": value} for path, value in changes]),
    }


def _without(api: str, kind: str, name: str) -> Patch:
    return {"patch": _text({"apiVersion": api, "kind": kind, "metadata": {"name": name}, "$patch": "delete"})}


def _text(content: Any) -> str:
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=1000)
