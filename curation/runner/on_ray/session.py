"""A Ray to run on: one of our own, of which nothing is left afterwards, or a cluster that is left as it was."""

import json
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from curation.runner.calls import line_of
from curation.runner.on_ray.processes import end_processes, is_alive
from curation.settings import RaySettings
from pipeline.errors import ClipmillError, RecipeError, Stopped, StorageError
from pipeline.log import get_logger

log = get_logger("curation")
_OBJECT_STORE_BYTES = 80 << 20  # Ray's least; nothing large passes through it
_REACH_S = 10.0
_GOODBYE_S = 10.0  # a Ray in good health shuts down in about one second
_SESSION = "clipmill-ray"
# Counts usage; starts further nodes; copies the workers' logs to the driver. Each is a Python that imports Ray.
_OF_NO_USE = ("start_api_server", "start_monitor", "start_log_monitor")


class JoinedRay:
    """A cluster of somebody else's."""

    def __init__(self, address: str) -> None:
        self._address = address

    def check(self) -> None:
        """Its servers are not ours to look at; a call that cannot reach them says so."""

    def lost(self, said: str) -> Stopped:
        hint = "see that the cluster is up and run the same command to go on"
        return Stopped("curate", f"the Ray at {self._address} is gone: {said}", "what is done is kept", hint)


class OwnRay:
    """A Ray started by this process; all its files lie in `folder`, all its ports on the loopback address."""

    def __init__(self, ray: Any, folder: Path) -> None:
        self._ray, self._folder, self._node = ray, folder, ray._private.worker._global_node

    def check(self) -> None:
        """Raises Stopped when one of its servers has died: Ray itself would wait for a minute, or for ever."""
        if self._dead():
            raise self.lost("")

    def lost(self, said: str) -> Stopped:
        found = f"the local Ray is gone: {self._dead() or said}"
        hint = "run the same command to go on; if it comes again, free memory or lower curate.ray.num_cpus"
        return Stopped("curate", found, "what is done is kept", hint)

    def _dead(self) -> str:
        for kind in ("gcs_server", "raylet"):
            for server in self._node.all_processes.get(kind, ()):
                code = server.process.poll()
                if code is not None:
                    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
                    return f"its {kind} {how}"
        return ""

    def close(self) -> None:
        """Leaves no process and no file of it, in whatever state it is."""
        if self._dead():  # Ray's own goodbye would wait for answers of the dead
            end_processes(self._folder)
        # Ray would ask its servers to end, one after the other, and wait a second for it: nothing is lost with them.
        self._node.kill_all_processes = lambda *_, **__: end_processes(self._folder)
        goodbye = threading.Thread(target=_quietly, args=(self._ray.shutdown,), daemon=True)
        goodbye.start()
        goodbye.join(_GOODBYE_S)
        _remove_session(self._folder)


@contextmanager
def joined_ray(ray: Any, settings: RaySettings, address: str) -> Iterator[JoinedRay]:
    """Joins a running cluster, and leaves it at the end."""
    try:
        _reach(address)
        with _set(*_silence(ray)):
            ray.init(address=address, runtime_env=settings.runtime_env, **_quiet())
    except Exception as error:
        hint = (
            "check curate.ray.address or $RAY_ADDRESS (without both, clipmill takes what fits the inputs), and that "
            "~/.ray/auth_token or $RAY_AUTH_TOKEN is the cluster's"
        )
        found = f"no Ray at {address}: {line_of(error)}"
        raise ClipmillError(
            "curate.ray.address", found, "a running cluster; or local, processes or inline", hint
        ) from None
    try:
        yield JoinedRay(address)
    finally:
        ray.shutdown()


@contextmanager
def own_ray(ray: Any, settings: RaySettings) -> Iterator[OwnRay]:
    """Starts a Ray of our own; at the end nothing of it is left."""
    folder = _session_folder(settings.temp_dir)
    cpus = settings.num_cpus or usable_cpus()
    began = time.monotonic()
    try:
        log.info("starting Ray with %d CPUs", cpus)
        with _alone_and_silent(ray):
            ray.init(
                address="local",
                **_quiet(),
                num_cpus=cpus,
                runtime_env=settings.runtime_env,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                _temp_dir=str(folder),
            )
    except BaseException as error:
        _quietly(ray.shutdown)
        _remove_session(folder)
        if not isinstance(error, Exception):
            raise
        hint = (
            "look for a full /dev/shm or /tmp, set curate.ray.temp_dir to a short local folder, or run without Ray: "
            "curate.ray.address=inline"
        )
        raise ClipmillError("curate.ray", f"Ray did not start: {line_of(error)}", "a local Ray", hint) from None
    log.debug("Ray started with %d CPUs in %.1f s", cpus, time.monotonic() - began)
    session = OwnRay(ray, folder)
    try:
        yield session
    finally:
        session.close()


def imported_ray(address: str) -> Any:
    """The module, imported with what it reads from the environment set. RecipeError when it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules:  # Ray reads it when it is imported
        if address == "local":  # a secret of this run alone, instead of a file in the home folder
            os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"] = "token", secrets.token_hex(32)
        elif "RAY_AUTH_TOKEN" in os.environ or Path.home().joinpath(".ray", "auth_token").exists():
            os.environ["RAY_AUTH_MODE"] = "token"  # as `ray start` does
    try:
        import ray
    except ImportError:
        raise RecipeError("curate.ray", "ray is not installed", "", "pip install 'clipmill[curate]'") from None
    return ray


def is_joined() -> bool:
    """Whether this process is on a Ray already: a notebook's, or of a program that calls us."""
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


def may_grow() -> bool:
    """In a task: whether the cluster has an autoscaler that may start nodes. Ray has no public word for it.

    An autoscaler of today reports the groups that it may start (KubeRay; Ray Data asks the same way); that of `ray up`
    reports the types of its nodes, which are called node_<id> where nodes are started by hand.
    """
    import ray._private.state
    from ray.experimental.internal_kv import _internal_kv_get

    groups = getattr(ray._private.state.state.get_cluster_config(), "node_group_configs", ())
    if any(group.max_count == -1 or group.max_count > group.min_count for group in groups):
        return True
    report = json.loads(_internal_kv_get(b"__autoscaling_status") or b"{}").get("autoscaler_report") or {}
    types = [*report.get("active_nodes", ()), *(each[1] for each in report.get("pending_nodes", ()))]
    return any(not str(name).startswith(("node_", "local.cluster.node")) for name in types)


def _quiet() -> dict[str, Any]:
    return {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}


@contextmanager
def _alone_and_silent(ray: Any) -> Iterator[None]:
    """A Ray that starts inside keeps to the loopback address, and asks nobody who or where it is.

    Without a dashboard, Ray's "API server" does nothing but count usage; with counting switched off it still asks
    169.254.169.254 and a name server for the cloud it runs in, and has no switch for that. So it is not started. The
    address of a node is looked up by connecting to 8.8.8.8, unless clusters are off: then it is 127.0.0.1.
    """
    constants = ray._private.ray_constants
    own = [
        (constants, "ENABLE_RAY_CLUSTER", False),
        *[(ray._private.node.Node, name, lambda *_, **__: None) for name in _OF_NO_USE],
        *_silence(ray),
    ]
    flags = {constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0"}
    added = {name: value for name, value in flags.items() if name not in os.environ}
    os.environ.update(added)  # for the processes it starts
    try:
        with _set(*own):
            yield
    finally:
        for name in added:
            os.environ.pop(name)


def _silence(ray: Any) -> list[tuple[Any, str, Any]]:
    """A dead server's last 20 lines, which Ray prints, come in one line from us (`OwnRay.check`, `Ground`)."""
    return [(ray._private.worker, "listen_error_messages", lambda *_: None)]


@contextmanager
def _set(*values: tuple[Any, str, Any]) -> Iterator[None]:
    """(object, attribute, value), for as long as it is open."""
    before = [(home, name, getattr(home, name)) for home, name, _ in values]
    for home, name, value in values:
        setattr(home, name, value)
    try:
        yield
    finally:
        for home, name, value in before:
            setattr(home, name, value)


def _quietly(function: Any) -> None:
    with suppress(Exception):
        function()


def _reach(address: str) -> None:
    """OSError when nobody listens there: Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_S).close()


def usable_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _session_folder(base: str | None) -> Path:
    """A folder of this process, short enough for Unix sockets (107 bytes); those of dead processes are removed."""
    root = Path(base) if base else Path(tempfile.gettempdir())
    if base is None and len(str(root)) > 32:
        root = Path("/tmp")
    try:
        root.mkdir(parents=True, exist_ok=True)
        for old in root.glob(f"{_SESSION}-*-*"):
            pid = old.name.split("-")[2]
            if pid.isdigit() and not is_alive(int(pid)):
                _remove_session(old)
        return Path(tempfile.mkdtemp(prefix=f"{_SESSION}-{os.getpid()}-", dir=root))
    except OSError as error:
        hint = "set curate.ray.temp_dir to a short local folder, or run without Ray: curate.ray.address=inline"
        raise StorageError("curate.ray.temp_dir", f"{root}: {error.strerror}", "a folder for sockets", hint) from None


def _remove_session(folder: Path) -> None:
    end_processes(folder)
    shutil.rmtree(folder, ignore_errors=True)
