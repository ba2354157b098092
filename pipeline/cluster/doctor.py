"""`clipmill doctor`: what of this machine would spoil a run. Each line: fine, or what is wrong and what to type.

Nothing here imports torch or Ray into this process: a broken driver must not take the doctor with it.
"""

import contextlib
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from pipeline import storage
from pipeline.cluster.rundir.create import PACKAGES
from pipeline.errors import ClipmillError

GB = 1 << 30
_SHM_GB, _DISK_GB, _FILES, _SKEW_S, _SLOW_S = 1.0, 10.0, 4096, 5.0, 5.0
_TORCH = (
    "import torch, torch.distributed as d; n = torch.cuda.device_count(); "
    "print(torch.__version__, n, torch.cuda.get_device_name(0) if n else '', "
    "'.'.join(map(str, torch.cuda.nccl.version())) if n else '', d.is_nccl_available(), sep='|')"
)
_ADD_UP = (
    "import os, torch, torch.distributed as d\n"
    "d.init_process_group('nccl', init_method='env://')\n"
    "r = int(os.environ['RANK']); x = torch.full((1 << 20,), float(r), device=f'cuda:{r}')\n"
    "d.all_reduce(x); assert x[0].item() == sum(range(d.get_world_size())), x[0]\n"
)


@dataclass(frozen=True)
class Finding:
    """`word`: ok, wrong, or unknown where it cannot be looked at here (which is no fault)."""

    what: str
    word: str
    found: str
    hint: str = ""

    @property
    def is_wrong(self) -> bool:
        return self.word == "wrong"


def examine(run_dir: Path | None = None) -> list[Finding]:
    """Every check, in the order of the table. `run_dir`: what has to be shared and writable."""
    looked: list[Callable[[], list[Finding]]] = [
        _python, _gpus, _memory_and_files, lambda: _storage(run_dir or Path.cwd()), _network, _schedulers,
    ]  # fmt: skip
    return [each for look in looked for each in look()]


def _python() -> list[Finding]:
    found = [Finding("python", "ok", f"{platform.python_version()} at {sys.executable}")]
    for name in PACKAGES:
        try:
            found.append(Finding(name, "ok", metadata.version(name)))
        except metadata.PackageNotFoundError:
            half = "curate" if name in ("ray", "webdataset") else "train"
            found.append(Finding(name, "unknown", "not installed", f"pip install 'clipmill[{half}]' where it is used"))
    return found


def _gpus() -> list[Finding]:
    seen = _answer(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"])
    told = _answer([sys.executable, "-c", _TORCH], 180)
    if told is None:
        return [Finding("torch", "unknown", "cannot be imported here", "pip install 'clipmill[train]' where it trains")]
    version, number, name, nccl, _ = told.splitlines()[-1].split("|")
    driver = len(seen.splitlines()) if seen else 0
    if driver and not int(number):
        hint = f"install the torch that is built for the driver: nvidia-smi; this one is {version}"
        return [Finding("gpu", "wrong", f"nvidia-smi shows {driver}, torch sees none", hint)]
    if not int(number):
        return [Finding("gpu", "ok", f"none; torch {version} trains on the CPU"), Finding("nccl", "unknown", "no GPU")]
    found = [
        Finding("gpu", "ok", f"{number} x {name}, torch {version}, driver {seen.splitlines()[0] if seen else '?'}")
    ]
    return [*found, _nccl(int(number), nccl)]


def _nccl(number: int, version: str) -> Finding:
    """A sum over all GPUs of this machine, by processes as a run has them."""
    variables = {"WORLD_SIZE": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(29_000 + os.getpid() % 1000)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", _ADD_UP], env={**os.environ, **variables, "RANK": str(rank)},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(number)
    ]  # fmt: skip
    said = ""
    try:
        for rank in ranks:
            said = said or (rank.communicate(timeout=120)[1] if rank.wait(120) else "")
    except subprocess.TimeoutExpired:
        said = "no answer within 120 s"
    finally:
        for rank in ranks:
            rank.kill()
    if said:
        hint = "NCCL_DEBUG=INFO clipmill doctor; look at NCCL_SOCKET_IFNAME and at /dev/shm"
        return Finding("nccl", "wrong", f"{version}: {said.strip().splitlines()[-1]}", hint)
    return Finding("nccl", "ok", f"{version}, all-reduce over {number}")


def _memory_and_files() -> list[Finding]:
    found = []
    shm = Path("/dev/shm")
    if shm.is_dir():
        free = shutil.disk_usage(shm).free / GB
        hint = "give the container more: docker run --shm-size=8g, or an emptyDir of medium Memory at /dev/shm"
        found.append(Finding("shm", *_least(free, _SHM_GB, "GB free in /dev/shm", hint)))
    free = shutil.disk_usage(tempfile.gettempdir()).free / GB
    found.append(
        Finding("disk", *_least(free, _DISK_GB, f"GB free in {tempfile.gettempdir()}", "free some, or set TMPDIR"))
    )
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    files = sys.maxsize if files == resource.RLIM_INFINITY else files
    found.append(Finding("files", *_least(files, _FILES, "files may be open", f"ulimit -n {_FILES}")))
    return found


def _least(found: float, least: float, unit: str, hint: str) -> tuple[str, str, str]:
    shown = f"{found:,.0f} {unit}"
    return ("ok", shown, "") if found >= least else ("wrong", f"{shown}, {least:,.0f} are wanted", hint)


def _storage(folder: Path) -> list[Finding]:
    """A file is written, renamed and read back, as a run does; its time tells how far the server's clock is off."""
    trial = folder / f"{storage.TEMP_PREFIX}doctor-{os.getpid()}"
    try:
        with storage.storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            began = time.monotonic()
            storage.publish_bytes(str(trial), b"x" * 1_000_000)
            whole, written_s = trial.read_bytes() == b"x" * 1_000_000, trial.stat().st_mtime
            took_s, skew_s = time.monotonic() - began, abs(time.time() - written_s)
    except ClipmillError as error:
        return [Finding("storage", "wrong", str(error).splitlines()[0], f"ls -ld {folder}; df -h {folder}")]
    finally:
        with contextlib.suppress(OSError):
            trial.unlink()
    word = "ok" if whole and took_s < _SLOW_S else "wrong"
    free = shutil.disk_usage(folder).free / GB
    hint = "" if word == "ok" else "ask for the state of the file server, or give --run-dir on another one"
    clock = "ok" if skew_s < _SKEW_S else "wrong"
    return [
        Finding(
            "storage", word, f"1 MB written, renamed and read in {took_s:.2f} s, {free:,.0f} GB free: {folder}", hint
        ),
        Finding("clock", clock, f"{skew_s:.1f} s from the file server's", "" if clock == "ok" else "chronyc makestep"),
    ]


def _network() -> list[Finding]:
    """The variables by which ranks find each other, as they are; interfaces that they name must be there."""
    interfaces = set(os.listdir("/sys/class/net")) if os.path.isdir("/sys/class/net") else set()
    found = []
    for name in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"):
        wanted = os.environ.get(name, "")
        plain = [each for each in wanted.split(",") if each and each[0] not in "^="]
        if not wanted:
            found.append(Finding(name, "ok", "not set: chosen by itself"))
        elif interfaces and not all(any(each.startswith(one) for each in interfaces) for one in plain):
            hint = f"export {name}=<one of {', '.join(sorted(interfaces))}>"
            found.append(Finding(name, "wrong", f"{wanted}: no such interface here", hint))
        else:
            found.append(Finding(name, "ok", wanted))
    return found


def _schedulers() -> list[Finding]:
    """Which can be reached from here: none has to be."""
    asked = {"slurm": ["sinfo", "--version"], "kubernetes": ["kubectl", "version", "--client"]}
    hints = {"slurm": "on a login node: module load slurm", "kubernetes": "install kubectl where jobs are submitted"}
    found = [Finding("local", "ok", "this machine")]
    for name, words in asked.items():
        said = _answer(words)
        word, shown = ("ok", said.splitlines()[0]) if said else ("unknown", f"{words[0]} is not here")
        found.append(Finding(name, word, shown, "" if said else hints[name]))
    return found


def _answer(words: list[str], limit_s: float = 20) -> str | None:
    """What a command prints, None where it is not there, fails or does not answer."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=limit_s)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


HEADS = ("what", "is", "found", "what to type")


def rows_of(found: list[Finding]) -> list[tuple[str, ...]]:
    """In words, as `HEADS` names them."""
    return [(each.what, each.word, each.found, each.hint) for each in found]
