"""How an attempt ended, from what is known for sure: the state that rank 0 left, then how the processes ended.

Exit codes of the wrapper
0    completed; also: nothing is to be done (completed before, stopped by a user, cancelled), and in a task of srun,
     which would shoot the other nodes for any other code, stopped: the batch script reads state.json
75   stopped after a committed checkpoint; start it again, uncounted
78   the recipe or the data are wrong, a newer attempt has taken over, or the retry budget is spent: never again
71   this node is unfit; start it again on another one
1    a crash or a hang; start it again
"""

import re
import signal
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.cluster.rundir.paths import RunDir, read_object
from pipeline.cluster.rundir.state import Fault, State, Status
from pipeline.errors import DataError, RecipeError, Stopped

DONE, STOPPED, NEVER, UNFIT, CRASHED = 0, Stopped.exit_code, DataError.exit_code, 71, 1
_TAIL = 1 << 16  # bytes of a log in which the cause is looked for
_BROKEN = re.compile(
    r"uncorrectable ECC|fallen off the bus|no CUDA-capable device|CUDA driver initialization failed|NVLink.*error", re.I
)
"""What the driver says of a GPU that only a reset, or another node, can help."""
_TRACEBACK = "Traceback (most recent call last):"
_ORDER: tuple[Fault, ...] = ("config", "data", "node", "hang", "crash")


@dataclass(frozen=True)
class Verdict:
    """`asked`: whether somebody asked for the stop. `exit_code`: None until node 0 has decided."""

    status: Status
    fault: Fault | None = None
    message: str = ""
    asked: bool = False
    exit_code: int | None = None


def of_process(code: int, log: Path, told: bool, asked: bool, state: State | None) -> Verdict:
    """`told`: whether it was told to stop. `state`: of this very attempt, where rank 0 has left one: what it says
    counts, whatever code came of it."""
    if state is not None and state.status in ("completed", "stopped"):
        return Verdict(state.status, None, state.message, asked)
    if told and code in (-signal.SIGTERM, 128 + signal.SIGTERM):
        return Verdict("stopped", None, "stopped before it had begun", True)
    said = last_error(log)
    if code == 0:
        return Verdict("completed")
    if code == Stopped.exit_code:
        return Verdict("stopped", None, said, asked)
    if code in (RecipeError.exit_code, DataError.exit_code):
        return Verdict("failed", "config" if code == RecipeError.exit_code else "data", said)
    if code == UNFIT or _BROKEN.search(said):
        return Verdict("failed", "node", said)
    return Verdict("failed", "crash", said or (f"ended by signal {-code}" if code < 0 else f"ended with code {code}"))


def closest_to_cause(verdicts: list[Verdict]) -> Verdict:
    """Of several nodes: what is wrong with recipe or data comes first, then ranks that were killed, then those that
    lost their peers because of it. A failure counts before a stop: some rank's share of the work is not saved."""

    def order(verdict: Verdict) -> tuple[int, int, bool]:
        failed = verdict.status == "failed"
        return (not failed, _ORDER.index(verdict.fault or "crash"), "was killed by" not in verdict.message)

    return min(verdicts, key=order)


def last_error(log: Path) -> str:
    """The last line of a log that begins with "error: ", with the hint behind it; else the error that the last
    traceback ends in; "" where there is none."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    at = max((number for number, line in enumerate(lines) if line.startswith("error: ")), default=None)
    if at is None or lines[at].endswith(_TRACEBACK):
        return _raised(lines)
    hint = [line for line in lines[at + 1 : at + 2] if line.startswith("hint: ")]
    return "\n".join([lines[at].removeprefix("error: "), *hint])


def _raised(lines: list[str]) -> str:
    at = max((number for number, line in enumerate(lines) if line.endswith(_TRACEBACK)), default=len(lines))
    return next((line for line in lines[at + 1 :] if line.strip() and not line[0].isspace()), "")


def exit_code_of(verdict: Verdict, held: str, in_srun: bool, failures: int, limit: int) -> int:
    """`held`: why no attempt may follow. `failures`: in a row without progress, this one included."""
    if verdict.status == "completed" or (verdict.status == "stopped" and (held or in_srun)):
        return DONE
    if verdict.status == "stopped" and (verdict.asked or failures < limit):
        return STOPPED
    if verdict.fault in ("config", "data") or held or failures >= limit:
        return NEVER
    return UNFIT if verdict.fault == "node" else CRASHED


def read_verdict(run: RunDir, attempt: int, node: int) -> Verdict | None:
    found = read_object(run.verdict(attempt, node))
    try:
        return None if found is None else Verdict(**found)
    except TypeError:
        return None


def as_dict(verdict: Verdict) -> dict[str, object]:
    return asdict(verdict)
