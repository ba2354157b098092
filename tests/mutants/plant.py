"""Errors planted one at a time in a copy of the tree, and which test sees each: the test of the tests.

The lists beside this file say what is lost, the line as it is, the line as it is to be, and the tests to run.

    python -m tests.mutants.plant                 # all: the test that caught each; exit 1 if one was not caught
    python -m tests.mutants.plant betas weights   # those whose words have one of these
"""

import contextlib
import importlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OURS = ("pipeline", "curation", "training", "tests", "benchmarks")
FILES = ("pyproject.toml", "README.md", "Makefile", "examples", "slurm", "k8s")
HEAVY = ("torch", "open_clip", "deepspeed", "timm", "pyarrow", "PIL.Image", "hypothesis", "pytest")
"""Imported once, before the copies are: what a test needs that is not ours."""
LANES = {"not exhaustive": 300, "exhaustive": 1200}
"""Of tests, in the order in which they are asked -> seconds that one error's may take; one that makes them hang is
caught."""

_NO_TESTS = 5  # pytest's word for it


@dataclass(frozen=True)
class Mutant:
    room: str  # the list's name
    lost: str
    file: str
    find: str
    replace: str
    tests: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.room}: {self.lost}"

    def planted_in(self, text: str) -> str:
        assert text.count(self.find) == 1, f"{self.name}: {self.file} has {self.find!r} {text.count(self.find)} times"
        return text.replace(self.find, self.replace)


def mutants() -> list[Mutant]:
    """A list's `file` and `tests` are those of its entries that name none."""
    found = []
    for path in sorted(HERE.glob("*.yaml")):
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
        for entry in given["mutants"]:
            entry = {"file": given["file"], "tests": given["tests"]} | entry
            tests = (entry["tests"],) if isinstance(entry["tests"], str) else tuple(entry["tests"])
            found.append(Mutant(path.stem, **(entry | {"tests": tests})))
    return found


def copied(folder: Path) -> Path:
    """The tree, to plant errors in."""
    for name in (*OURS, *FILES):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@contextlib.contextmanager
def planted(mutant: Mutant, tree: Path) -> Iterator[None]:
    path = tree / mutant.file
    before = path.read_text(encoding="utf-8")
    try:
        path.write_text(mutant.planted_in(before), encoding="utf-8")
        yield
    finally:
        path.write_text(before, encoding="utf-8")


def caught_by(mutant: Mutant, tree: Path) -> str:
    """The first of its tests that fails with the error in `tree`, and "" when all pass."""
    return next((found for lane in LANES if (found := _caught_in(lane, mutant, tree))), "")


def _caught_in(lane: str, mutant: Mutant, tree: Path) -> str:
    """By a fork of this process."""
    said, says = os.pipe()
    with planted(mutant, tree):
        child = os.fork()
        if not child:
            _test(lane, mutant.tests, tree, says)
        os.close(says)
        # From outside: pytest-timeout has the alarm, and a test of hypothesis goes on shrinking after it.
        limit = threading.Timer(LANES[lane], _end_group, (child,))
        limit.start()
        with os.fdopen(said) as answers:
            words = answers.read()  # until no process of its group is left to say more
        _, status = os.waitpid(child, 0)
        limit.cancel()
    if os.WIFSIGNALED(status):
        return f"{mutant.tests[0]} (ended by signal {os.WTERMSIG(status)} after at most {LANES[lane]} s)"
    ended = os.waitstatus_to_exitcode(status)
    ended = 0 if ended == _NO_TESTS else ended
    assert ended in (0, 1) and bool(words) == bool(ended), f"{mutant.name}: pytest ended with {ended}: {words}"
    return words


def _end_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _test(lane: str, tests: tuple[str, ...], tree: Path, says: int) -> None:
    """Runs them on the copy and ends the process."""
    status = 3
    try:
        os.setsid()
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(quiet, stream)
        for name in [name for name in sys.modules if name.split(".")[0] in OURS]:
            del sys.modules[name]
        os.chdir(tree)
        sys.path.insert(0, str(tree))
        pytest = importlib.import_module("pytest")
        options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", lane]
        status = int(pytest.main([*options, *tests], plugins=[_Witness(says)]))
    except BaseException:
        os.write(says, traceback.format_exc().encode())
    finally:
        os._exit(status)


class _Witness:
    """Says which test failed first."""

    def __init__(self, says: int) -> None:
        self._says: int | None = says

    def pytest_runtest_logreport(self, report: Any) -> None:
        self._say(report)

    def pytest_collectreport(self, report: Any) -> None:
        self._say(report)

    def _say(self, report: Any) -> None:
        if report.failed and self._says is not None:
            os.write(self._says, str(report.nodeid).encode())
            self._says = None


_tree: Path | None = None


def _begin(folder: str) -> None:
    global _tree
    for name in HEAVY:
        importlib.import_module(name)
    _tree = copied(Path(tempfile.mkdtemp(dir=folder)))


def _caught(mutant: Mutant) -> tuple[Mutant, str]:
    assert _tree is not None
    return mutant, caught_by(mutant, _tree)


def tried(chosen: Sequence[Mutant]) -> Iterator[tuple[Mutant, str]]:
    """Each, in the order in which they end, with the test that caught it or ""."""
    os.environ |= {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PYTHONDONTWRITEBYTECODE": "1"}
    os.environ["TRITON_INTERPRET"] = "1"  # as tests/conftest.py has it, which comes too late behind what was imported
    jobs = min(len(os.sched_getaffinity(0)), 4)
    with tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True) as folder:
        with ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (folder,)) as pool:
            for done in as_completed([pool.submit(_caught, mutant) for mutant in chosen]):
                yield done.result()


def main(words: list[str]) -> int:
    chosen = [one for one in mutants() if not words or any(word in one.name for word in words)]
    missed = []
    for number, (mutant, test) in enumerate(tried(chosen), 1):
        missed += [] if test else [mutant.name]
        print(f"{number}/{len(chosen)} | {mutant.name} | {test or 'NOTHING'}", flush=True)
    print(f"{len(chosen) - len(missed)} of {len(chosen)} planted errors are caught", *missed, sep="\n")
    return len(missed) > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
