"""Where tasks run: a Ray of our own, a Ray cluster, or this process. The only importer of ray.

A task is a function of curation/runner/tasks.py; what it returns is small, everything else goes through files.
"""

import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from curation.settings import RaySettings
from pipeline.errors import ClipmillError, RecipeError, Stopped, StorageError
from pipeline.log import get_logger

log = get_logger("curation")
_OBJECT_STORE_BYTES = 80 << 20  # Ray's least; nothing large passes through it
_POLL_S = 0.5  # how soon a request to stop is seen
_REACH_S = 10.0
_SESSION = "clipmill-ray"


@dataclass(frozen=True)
class Call:
    """One task: function(job, *args); `where` names it in errors."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    where: str
    cpus: float = 1.0
    gpus: float = 0.0


class StopFlag:
    """Set by SIGINT or SIGTERM while a run is on; a second signal does what it always did."""

    def __init__(self) -> None:
        self.signal = 0
        self._before: dict[int, Any] = {}

    def arm(self) -> None:
        """Takes the signals; again after ray.init, which takes SIGTERM for itself. A no-op outside the main thread."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before = signal.signal(number, self._ask)
                self._before.setdefault(number, before)

    def disarm(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self.disarm()

    def check(self) -> None:
        if self.signal:
            name = signal.Signals(self.signal).name
            raise Stopped("curate", f"stopped by {name}", "what is done is kept", "run the same command to go on")


@contextmanager
def stop_flag() -> Iterator[StopFlag]:
    """Catches SIGINT and SIGTERM (in the main thread; elsewhere the caller minds them)."""
    flag = StopFlag()
    flag.arm()
    try:
        yield flag
    finally:
        flag.disarm()


class Inline:
    """Runs every task here, one after the other: for debugging and small tests."""

    def __init__(self, job: Any, flag: StopFlag) -> None:
        self._job, self._flag = job, flag

    def run(self, calls: Iterable[Call]) -> Iterator[tuple[Call, Any]]:
        for call in calls:
            self._flag.check()
            yield call, call.function(self._job, *call.args)


class OnRay:
    """Runs tasks on Ray, a bounded number in flight; yields results as they come."""

    def __init__(self, job: Any, flag: StopFlag) -> None:
        import ray

        self._ray, self._flag = ray, flag
        self._job = ray.put(job)
        # max_calls=0: Ray would else end a GPU worker after each task, and with it the loaded model.
        self._task = ray.remote(max_retries=3, max_calls=0)(_guarded)

    def run(self, calls: Iterable[Call]) -> Iterator[tuple[Call, Any]]:
        """(call, result) in the order of completion. Raises the first error; what runs then is cancelled."""
        waiting, flying = deque(calls), {}
        most = 2 + 2 * int(self._ray.cluster_resources().get("CPU", 1))
        try:
            while waiting or flying:
                while waiting and len(flying) < most:
                    call = waiting.popleft()
                    options = self._task.options(num_cpus=call.cpus, num_gpus=call.gpus, name=call.where[:60])
                    flying[options.remote(call.function, self._job, *call.args)] = call
                done, _ = self._ray.wait(list(flying), num_returns=1, timeout=_POLL_S)
                self._flag.check()
                for ref in done:
                    call = flying.pop(ref)
                    yield call, self._get(ref, call)
        finally:
            for ref in flying:
                with suppress(Exception):
                    self._ray.cancel(ref, force=True)

    def _get(self, ref: Any, call: Call) -> Any:
        try:
            result, error = self._ray.get(ref)
        except (self._ray.exceptions.OutOfMemoryError, self._ray.exceptions.WorkerCrashedError) as fault:
            hint = "use more `curate.buckets`, a smaller placement.<kind>.batch or fewer `curate.ray.num_cpus`"
            found = f"its process died four times: {_line(fault)}"
            raise ClipmillError(call.where, found, "enough memory", hint) from None
        except self._ray.exceptions.RayError as fault:
            raise ClipmillError(call.where, f"Ray could not run it: {_line(fault)}") from None
        if error is not None:
            raise error
        return result


def _guarded(function: Callable[..., Any], job: Any, *args: Any) -> tuple[Any, Exception | None]:
    """Errors are values: ours arrive as they left, without Ray's wrapping."""
    try:
        return function(job, *args), None
    except ClipmillError as error:
        error.__cause__ = error.__context__ = None  # may hold what cannot be pickled
        return None, error
    except OSError as error:
        return None, StorageError(str(error.filename or function.__name__), _line(error))
    except Exception as error:
        return None, ClipmillError(function.__name__, f"{type(error).__name__}: {_line(error)}")


@contextmanager
def cluster(settings: RaySettings, job: Any, flag: StopFlag) -> Iterator[Inline | OnRay]:
    """A place to run tasks; a Ray we started is shut down at the end, one we joined is left as it was."""
    address = settings.address or os.environ.get("RAY_ADDRESS") or "local"
    if address == "inline":
        yield Inline(job, flag)
        return
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
    if ray.is_initialized():  # a notebook, or a test that shares one Ray
        yield OnRay(job, flag)
        return
    try:
        folder = _start(ray, settings, address)
    except SystemExit:  # Ray's own handler, while it starts
        flag.signal = flag.signal or signal.SIGTERM
        flag.check()
    try:
        flag.arm()
        flag.check()
        yield OnRay(job, flag)
    finally:
        ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _start(ray: Any, settings: RaySettings, address: str) -> Path | None:
    """Starts or joins a Ray; returns the session folder of one we started."""
    common = {"address": address, "log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    if address != "local":
        try:
            _reach(address)
            ray.init(**common)
        except Exception as error:
            hint = (
                "check curate.ray.address or $RAY_ADDRESS (without both, clipmill starts a Ray of its own), and that "
                "~/.ray/auth_token or $RAY_AUTH_TOKEN is the cluster's"
            )
            found = f"no Ray at {address}: {_line(error)}"
            raise ClipmillError("curate.ray.address", found, "a running cluster", hint) from None
        return None
    folder = _session_folder(settings.temp_dir)
    cpus = settings.num_cpus or _usable_cpus()
    began = time.monotonic()
    try:
        log.info("starting Ray with %d CPUs", cpus)
        ray.init(
            **common,
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            _temp_dir=str(folder),
        )
    except BaseException as error:
        with suppress(Exception):
            ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
        if not isinstance(error, Exception):
            raise
        hint = (
            "look for a full /dev/shm or /tmp, set curate.ray.temp_dir to a short local folder, or run without Ray: "
            "curate.ray.address=inline"
        )
        raise ClipmillError("curate.ray", f"Ray did not start: {_line(error)}", "a local Ray", hint) from None
    log.debug("Ray started with %d CPUs in %.1f s", cpus, time.monotonic() - began)
    return folder


def _reach(address: str) -> None:
    """OSError when nobody listens there: Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_S).close()


def _usable_cpus() -> int:
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
            if pid.isdigit() and not _alive(int(pid)):
                shutil.rmtree(old, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix=f"{_SESSION}-{os.getpid()}-", dir=root))
    except OSError as error:
        hint = "set curate.ray.temp_dir to a short local folder, or run without Ray: curate.ray.address=inline"
        raise StorageError("curate.ray.temp_dir", f"{root}: {error.strerror}", "a folder for sockets", hint) from None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:400] or type(error).__name__
