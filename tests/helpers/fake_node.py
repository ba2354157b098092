"""A stand-in for `clipmill` on a cluster's node: steps are naps, and what goes wrong at which step is said beforehand.

    clipmill node RUN_DIR STAGE      the wrapper's side of the contract: state.json, control/stop, exit codes
    clipmill submit RECIPE ...       makes the run directory `run`, prints a file of it

RUN_DIR/plan.json: {"steps": 20, "nap_s": 0.1, "save_every": 5, "at": {"7": "crash"}}; what happens at a step (crash,
config, node, hang, silent) happens once. Standard library alone: it starts in a blink.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

told = []


def main() -> int:
    if sys.argv[1] == "submit":
        Path("run").mkdir(exist_ok=True)
        Path("run/run.yaml").write_text(" ".join(sys.argv[2:]))
        print("words for people")
        print(Path("run").absolute() / "slurm/submit.sh")
        return 0
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda *_: told.append(1))
    run, stage = Path(sys.argv[2]), sys.argv[3]
    rank, nodes = int(os.environ["CLIPMILL_NODE_RANK"]), int(os.environ["CLIPMILL_NODES"])
    with open(run / "started", "a") as file:
        where = f"{os.environ['CLIPMILL_MASTER_ADDR']}:{os.environ['CLIPMILL_MASTER_PORT']}"
        host = os.uname().nodename
        words = [os.environ["CLIPMILL_ATTEMPT"], stage, rank, nodes, host, where, os.environ["CLIPMILL_GRACE_S"]]
        file.write(" ".join(map(str, words)) + "\n")
    return first(run, stage) if rank == 0 else other(run)


def first(run: Path, stage: str) -> int:
    plan = {"steps": 20, "nap_s": 0.1, "save_every": 5, "at": {}, **json.loads((run / "plan.json").read_text())}
    saved = run / f"{stage}.step"
    step = int(saved.read_text()) if saved.exists() else 0
    say(run, stage, "running", step)
    while step < plan["steps"]:
        time.sleep(plan["nap_s"])
        step += 1
        with open(run / "steps", "a") as file:
            file.write(f"{stage} {step} {time.time()}\n")
        happens = plan["at"].get(str(step), "")
        mark = run / f"{stage}-{step}-{happens}"
        if happens and not mark.exists():
            mark.touch()
            if happens == "silent":
                os.kill(os.getpid(), signal.SIGKILL)
            if happens == "hang":
                time.sleep(3600)
            code = {"config": 78, "node": 71}.get(happens, 1)
            say(run, stage, "failed", step, fault=happens, code=code)
            return code
        is_told = bool(told) or (run / "control/stop").exists()
        if step % plan["save_every"] == 0 or step == plan["steps"] or is_told:
            aside = saved.with_suffix(".aside")
            aside.write_text(str(step))
            aside.replace(saved)
        if is_told and step < plan["steps"]:
            say(run, stage, "stopped", step, code=75)
            return 0
    say(run, stage, "completed", step, code=0)
    return 0


def other(run: Path) -> int:
    """Ends when the first has said how it ended."""
    while True:
        time.sleep(0.05)
        try:
            found = json.loads((run / "state.json").read_text())
        except (OSError, ValueError):
            continue
        if found["owner"].startswith(os.environ["CLIPMILL_ATTEMPT"]) and found["status"] != "running":
            return 0 if found["status"] != "failed" else found["exit_code"]


def say(run: Path, stage: str, status: str, step: int, fault: str | None = None, code: int | None = None) -> None:
    content = {
        "format_version": 1, "stage": stage, "status": status, "class": fault, "message": f"{fault} at {step}",
        "step": step, "attempt": 1, "owner": os.environ["CLIPMILL_ATTEMPT"] + "-x", "exit_code": code,
    }  # fmt: skip
    aside = run / ".state"
    aside.write_text(json.dumps(content))
    aside.replace(run / "state.json")


if __name__ == "__main__":
    sys.exit(main())
