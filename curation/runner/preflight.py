"""What can only be known once the cluster is there, looked at before any work: tasks fit on a node, and every node sees
the same places and the same files.

Every node must find under output and pool what this process wrote there, and this process what every node wrote: by
name, since a listing may be remembered by a network file system. Only then is it one place for all.
"""

import secrets
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from curation.job import Job, check_files
from curation.runner.calls import Node, Resources
from curation.settings import PlacementSettings
from pipeline import storage
from pipeline.errors import ClipmillError, RecipeError, StorageError
from pipeline.log import get_logger
from pipeline.storage.files import TEMP_PREFIX

log = get_logger("curation")
_PATIENCE_S = 5.0  # a network file system may be late
_PAUSE_S = 0.25


class Nodes(Protocol):
    """The part of a place to run tasks that is asked here."""

    def nodes(self) -> list[Node]: ...

    def autoscales(self) -> bool: ...

    def is_shared(self) -> bool:
        """Whether other machines, set up by somebody, belong to it."""
        ...

    def on_each_bare(self, nodes: Sequence[Node], function: Any) -> Iterable[tuple[Node, Any]]:
        """function() on each node, clipmill or no clipmill there."""
        ...

    def on_each(self, nodes: Sequence[Node], function: Any, *args: Any) -> Iterable[tuple[Node, Any]]:
        """function(job, node id, *args) on each node."""
        ...


@dataclass(frozen=True)
class Input:
    """One file of each source stands for all."""

    where: str
    path: str
    bytes: int


def preflight(place: Nodes, job: Job, inputs: Sequence[Input]) -> None:
    """RecipeError naming node and path, or the placement that no node can give, or the clipmill of a node that is
    another one; DataError for a file of a stage that differs. Nothing to do without a cluster."""
    nodes = place.nodes()
    if nodes:
        check_placement(job, nodes, place)
        if place.is_shared():
            check_code(place, nodes)
        if len(nodes) > 1 or place.is_shared() or job.settings.ray.runtime_env:  # a Ray of our own sees what we see
            check_nodes(place, job, nodes, inputs)


def check_placement(job: Job, nodes: Sequence[Node], place: Nodes) -> None:
    """Ray would wait for ever for a node that can run what no node can."""
    for where, wants in _asks(job):
        if any(each.cpus >= wants.cpus and each.gpus >= wants.gpus and each.memory >= wants.memory for each in nodes):
            continue
        largest = max(nodes, key=lambda node: (*_part(node, wants), node.gpus, node.cpus))
        with_memory = bool(wants.memory)
        found = f"a task asks for {_words(wants, with_memory)}; the largest node, {largest.name}, has "
        found += _words(largest, with_memory)
        if place.autoscales():
            log.warning("%s: %s; waiting for the cluster to start one that is large enough", where, found)
            continue
        hint = f"lower {where}, or add such a node to the cluster (a Ray of our own: curate.ray.num_cpus)"
        raise RecipeError(where, found, "at most what one node has: a task runs on one", hint)


def _part(node: Node, wants: Resources) -> tuple[float, float, float]:
    """What a node has of what is wanted, the rarest first."""
    return min(node.gpus, wants.gpus), min(node.memory, wants.memory), min(node.cpus, wants.cpus)


def _asks(job: Job) -> list[tuple[str, Resources]]:
    """(dotted path, what it asks for) of every sort of task, once."""
    found: dict[tuple[float, float, int], tuple[str, Resources]] = {}

    def noted(where: str, wants: Resources) -> None:
        found.setdefault((wants.cpus, wants.gpus, wants.memory), (where, wants))

    noted("curate.ray", PlacementSettings())
    for stage in job.settings.stages:
        noted(f"curate.placement.{stage.kind}", job.placement(stage))
    for segment in job.segments:  # stages that share a task: the most that one asks for
        used = [job.stage(at).kind for at in segment.rows]  # what ends it asks in tasks of its own
        kinds = [kind for kind in dict.fromkeys(used) if kind in job.settings.placement]
        noted(" and ".join(f"curate.placement.{kind}" for kind in kinds), segment)
    return list(found.values())


def _words(asks: Resources, with_memory: bool) -> str:
    memory = f", {asks.memory} bytes of memory" if with_memory else ""
    return f"{asks.cpus:g} CPUs and {asks.gpus:g} GPUs{memory}"


def code_probe() -> Callable[[], dict[str, str]]:
    """A function that says which clipmill a process would import. It is a local one, and imports inside, so that Ray
    ships its bytes: the node may have no clipmill."""

    def probe() -> dict[str, str]:
        import hashlib
        import importlib.util
        import sys
        from pathlib import Path

        found = {"folder": "", "Python": f"{sys.version_info[0]}.{sys.version_info[1]}"}
        try:
            import pyarrow

            found["pyarrow"] = pyarrow.__version__
        except ImportError:
            found["pyarrow"] = "none"
        digest = hashlib.sha256()
        for name in ("curation", "pipeline"):
            spec = importlib.util.find_spec(name)
            if spec is None or not spec.origin:
                return {**found, "clipmill": "none"}
            folder = Path(spec.origin).parent
            for file in sorted(folder.rglob("*.py")):
                digest.update(f"{name}/{file.relative_to(folder).as_posix()}\n".encode())
                digest.update(hashlib.sha256(file.read_bytes()).digest())
        return {**found, "clipmill": digest.hexdigest()[:16], "folder": str(folder.parent)}

    return probe


def check_code(place: Nodes, nodes: Sequence[Node]) -> None:
    """RecipeError when a node would run another clipmill, Python or pyarrow than this process: rows and bytes could
    come out otherwise there."""
    own = code_probe()()
    for node, found in place.on_each_bare(nodes, code_probe()):
        for what in ("Python", "clipmill", "pyarrow"):
            if found[what] == own[what]:
                continue
            hint = {
                "Python": "start Ray there with that Python",
                "pyarrow": f"pip install pyarrow=={own[what]} there, or curate.ray.runtime_env={{pip: "
                f"['pyarrow=={own[what]}']}}",
                "clipmill": "install the same version on every node (pip install 'clipmill[curate]'), or let Ray bring "
                f"it: curate.ray.runtime_env={{working_dir: {own['folder']}}}",
            }[what]
            said = f"node {node.name}: {what} {found[what]}" + (f" in {found['folder']}" if found["folder"] else "")
            raise RecipeError("curate.ray", said, f"{what} {own[what]}, as on {socket.gethostname()}", hint)


def check_nodes(place: Nodes, job: Job, nodes: Sequence[Node], inputs: Sequence[Input]) -> None:
    """Every node and this process see the same output and pool, the inputs, and the files that stages name."""
    token = secrets.token_hex(6)
    folders = _folders(job)
    written = [storage.join(folder, _name(token, "driver")) for folder in folders.values()]
    try:
        for url in written:
            storage.publish_bytes(url, token.encode())
        for node, faults in place.on_each(nodes, look, token, list(inputs)):
            _raise_first(node, faults)
            for where, folder in folders.items():
                url = storage.join(folder, _name(token, node.id))
                written.append(url)
                if not _reads(url, token):
                    raise _not_shared(node, where, folder, "what it writes there is not seen here")
    finally:
        for url in written:
            storage.remove(url)


def look(job: Job, node: str, token: str, inputs: Sequence[Input]) -> list[tuple[str, str, str] | ClipmillError]:
    """On a node: (dotted path, path, what is wrong) of what it does not see as the driver does. Writes only into places
    where it has found what the driver wrote."""
    faults: list[tuple[str, str, str] | ClipmillError] = []
    for where, folder in _folders(job).items():
        if not _reads(storage.join(folder, _name(token, "driver")), token):
            faults.append((where, folder, "what the process that was started has written there is not seen"))
            continue
        try:
            storage.publish_bytes(storage.join(folder, _name(token, node)), token.encode())
        except (StorageError, OSError) as error:
            faults.append((where, folder, f"it cannot be written to: {getattr(error, 'found', error)}"))
    for each in inputs:
        try:
            size = storage.size(each.path)
        except StorageError as error:
            faults.append((each.where, each.path, error.found))
            continue
        if size != each.bytes:
            faults.append(
                (each.where, each.path, f"it has {size} bytes there and {each.bytes} where the job was started")
            )
    try:
        check_files(job, range(len(job.settings.stages)))
    except ClipmillError as error:
        faults.append(error)
    return faults


def _folders(job: Job) -> dict[str, str]:
    """Dotted path -> what all nodes write to."""
    return {"curate.output": job.settings.output, "curate.pool": job.pool}


def _raise_first(node: Node, faults: Sequence[tuple[str, str, str] | ClipmillError]) -> None:
    for fault in faults:
        raise fault if isinstance(fault, ClipmillError) else _not_shared(node, *fault)


def _not_shared(node: Node, where: str, path: str, found: str) -> RecipeError:
    local = storage.local_path(path)
    if local is not None and not local.is_absolute():
        hint = f"type the whole path, {where}={local.absolute()}, and see that every node mounts it"
    elif local is not None:
        hint = f"give {where} a path on a file system that every node mounts, or a URL such as s3://bucket/folder"
    else:
        hint = f"give {where} a place that every node reaches, and every node what it needs to reach it"
    said = f"node {node.name}, {storage.shown(path)}: {found}"
    return RecipeError(where, said, f"the same place on every node as on {socket.gethostname()}", hint)


def _name(token: str, who: str) -> str:
    return f"{TEMP_PREFIX}{token}-probe-{who}"


def _reads(url: str, token: str) -> bool:
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            if storage.read_bytes(url) == token.encode():
                return True
        except ClipmillError:  # not there, or not whole
            pass
        if time.monotonic() >= end:
            return False
        time.sleep(_PAUSE_S)
