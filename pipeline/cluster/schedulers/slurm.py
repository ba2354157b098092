"""SLURM: the job files of slurm/ handed to sbatch with flags, each stage waiting for the one before.

    <run>/slurm/submit.sh        the sbatch lines; a person may edit it and run it by hand
                {curate,reinforce,train,eval}.sbatch, lib.sh, env.sh, ...    as they were at the submission

Asks squeue, never sacct, so that it works without slurmdbd.
"""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from pipeline.cluster.rundir import STAGES, RunDir
from pipeline.cluster.schedulers.scheduler import Job, Request, Said, lines_of
from pipeline.errors import ClipmillError, UsageError

FILES = Path(__file__).parents[3] / "slurm"
_COPIED = ("lib.sh", "env.sh", "preflight.sh", "all_reduce.py")
SUBMIT = "submit.sh"
# Flags of sbatch that a site or a person may want; the rest is the job files' own.
FLAGS = (
    "account", "begin", "clusters", "constraint", "cpus-per-task", "deadline", "exclude", "gpus-per-node", "gres",
    "licenses", "mail-type", "mail-user", "mem", "nice", "nodelist", "nodes", "partition", "prefer", "qos",
    "reservation", "signal", "switches", "time", "tmp", "wckey",
)  # fmt: skip
SPARES = "spares"
_STATES = {
    "waiting": "PENDING REQUEUED REQUEUE_FED REQUEUE_HOLD RESV_DEL_HOLD SPECIAL_EXIT CONFIGURING",
    "running": "RUNNING COMPLETING STAGE_OUT SIGNALING SUSPENDED STOPPED RESIZING",
    "done": "COMPLETED",
    "failed": "BOOT_FAIL CANCELLED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED REVOKED TIMEOUT",
}
_OF_STATE = {word: state for state, words in _STATES.items() for word in words.split()}
_ASK_S = 30.0


class Slurm:
    """One job a stage. All jobs of a run have one name of their own, and of those SLURM runs one at a time, so that a
    run submitted twice has one writer."""

    name = "slurm"

    def render(self, run: RunDir, request: Request) -> dict[str, str]:
        if not (FILES / "lib.sh").is_file():
            hint = "submit from a checkout that is installed by `pip install -e .`"
            raise UsageError(str(FILES), "has no job files", "the folder slurm/ of the source", hint)
        names = [*_COPIED, *(f"{stage}.sbatch" for stage in request.stages)]
        files = {name: (FILES / name).read_text() for name in names}
        # Defaults of this submission come before the site's.
        said = [f'CLIPMILL_VENV="${{CLIPMILL_VENV-{sys.prefix}}}"']
        if SPARES in request.options:
            said.append(f'[ "$STAGE" != train ] || CLIPMILL_SPARES="${{CLIPMILL_SPARES-{request.options[SPARES]}}}"')
        files["env.sh"] = files["env.sh"].replace("\n\n", "\n\n" + "\n".join(said) + "\n\n", 1)
        return {**files, SUBMIT: _script(run, request)}

    def submit(self, run: RunDir, request: Request) -> list[Job]:
        """Every job is first offered to SLURM without being queued; then all are queued, or none."""
        if shutil.which("sbatch") is None:
            raise UsageError("sbatch", "is not here", "SLURM's commands", "submit on a login node of the cluster")
        script = str(run.jobs(self.name) / SUBMIT)
        _told(["bash", script, "--test-only"])
        lines = [line.split() for line in _told(["bash", script]).splitlines()]
        return [Job(words[1], words[0], "waiting") for words in lines if len(words) == 2 and words[0] in STAGES]

    def jobs(self, run: RunDir, ids: list[str]) -> list[Job]:
        try:
            asked = ["squeue", "--noheader", "--states=all", "--format=%i|%T|%r|%S|%N|%o", f"--jobs={','.join(ids)}"]
            done = subprocess.run(asked, capture_output=True, text=True, timeout=_ASK_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            return [Job(each, "", "gone", f"squeue: {error}") for each in ids]
        found = {job.id: job for job in map(_parsed, done.stdout.splitlines()) if job is not None}
        # SLURM forgets a job some minutes after its end (MinJobAge); of one it then says "Invalid job id".
        unknown = "" if "Invalid job id" in done.stderr else done.stderr.strip()
        return [found.get(each, Job(each, "", "gone", unknown)) for each in ids]

    def cancel(self, run: RunDir, ids: list[str]) -> None:
        """What waits is gone at once. The shell of what runs is told, and not its tasks: those have as long to save as
        they need, while after a whole `scancel` SLURM kills them in KillWait (30 s)."""
        _told(["scancel", "--state=PENDING", *ids], quiet=True)
        _told(["scancel", "--state=RUNNING", "--batch", "--signal=TERM", *ids], quiet=True)

    def said(self, run: RunDir, ids: list[str], within_s: float | None = None) -> list[Said]:
        """What the shells of the jobs and srun's tasks wrote; of jobs submitted by hand the shells wrote elsewhere."""
        return [line for path in sorted(run.logs.glob("slurm/*.log")) for line in lines_of(path)]


def _script(run: RunDir, request: Request) -> str:
    shared, per_stage = _flags(request)
    lines = [_HEAD.format(path=shlex.quote(str(run.path)))]
    before = ""
    for stage in request.stages:
        flags = {
            "job-name": _job_name(run),
            "dependency": f"afterok:${before},singleton" if before else "singleton",
            "output": str(run.path / f"logs/slurm/{stage}-%j.log"),
        }
        if stage == "train":
            flags["nodes"] = str(request.nodes + int(request.options.get(SPARES, 0)))
        if stage != "curate" and request.gpus_per_node is not None:
            flags["gpus-per-node"] = str(request.gpus_per_node)
        flags |= shared | per_stage.get(stage, {})
        words = " ".join(f'"--{name}={value}"' for name, value in flags.items())
        lines.append(f'queue {stage} {words} "$slurm/{stage}.sbatch" "$run"\n')
        if stage != request.stages[-1]:
            lines.append(f"{stage}=$job\n")
        before = stage
    return "".join(lines)


# A parent that failed leaves its children waiting for ever without --kill-on-invalid-dep.
_HEAD = """\
#!/usr/bin/env bash
# Queues the stages of a run, each after the one before: bash submit.sh [--test-only]
set -euo pipefail
run={path}
slurm=$run/slurm
mkdir -p "$run/logs/slurm"
cd "$run" # where the jobs look for slurm/lib.sh
test=${{1:-}}
jobs=()
trap '[ $? = 0 ] || [ ${{#jobs[@]}} = 0 ] || scancel "${{jobs[@]}}"' EXIT # all of them or none

# Nodes that a preflight found unfit within a day.
unfit=$(awk -v since="$(date -u -d '-1 day' +%FT%TZ)" '$1 > since {{ print $3 }}' "$run/unfit_nodes" 2>/dev/null |
  sort -u | paste -sd, || true)

queue() {{ # queue STAGE FLAGS FILE RUN: sets job
  local stage=$1
  shift
  [ -z "$unfit" ] || set -- "--exclude=$unfit" "$@"
  if [ "$test" = --test-only ]; then
    job=0
    sbatch --test-only "${{@/#--dependency=*/--comment=}}"
    return
  fi
  job=$(sbatch --parsable --kill-on-invalid-dep=yes "$@")
  job=${{job%%;*}}
  jobs+=("$job")
  echo "$stage $job"
}}

"""


def _job_name(run: RunDir) -> str:
    """The run's own: two runs of one name in two folders must not wait for each other."""
    return f"clipmill-{run.id}-{sha256(str(run.path).encode()).hexdigest()[:8]}"


def _flags(request: Request) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """(of all stages, of each): --option time=12:00:00 --option train.time=48:00:00."""
    shared: dict[str, str] = {}
    per_stage: dict[str, dict[str, str]] = {}
    for key, value in request.options.items():
        stage, dot, flag = key.rpartition(".")
        if key == SPARES:
            if not value.isdigit():
                raise UsageError("--option spares", f"found {value!r}", "how many nodes more", "--option spares=1")
            continue
        if flag not in FLAGS or (dot and stage not in STAGES):
            known = f"one of {', '.join(FLAGS)}, {SPARES}; also STAGE.FLAG for one stage"
            raise UsageError("--option", f"found {key!r}", known, "--option partition=gpu --option train.time=48:00:00")
        if any(mark in value for mark in '"$`\\\n'):
            raise UsageError(f"--option {key}", f"found {value!r}", "no quotes, $, ` or \\", f"--option {key}=...")
        (per_stage.setdefault(stage, {}) if dot else shared)[flag] = value
    return shared, per_stage


def _parsed(line: str) -> Job | None:
    words = line.split("|")
    if len(words) < 6:
        return None
    number, state, reason, start, nodes, command = words[:6]
    stage = Path(command.split()[0]).stem if command.split() else ""
    known = _OF_STATE.get(state, "running")
    said: Mapping[str, str] = {
        "waiting": reason + (f", expected to start {start}" if start not in ("", "N/A") else ""),
        "running": f"on {nodes}" if state == "RUNNING" else state.lower(),
        "failed": state.lower() + (f" ({reason})" if reason not in ("None", "") else ""),
    }
    return Job(number, stage if stage in STAGES else "", known, said.get(known, ""))


def _told(command: list[str], quiet: bool = False) -> str:
    """What a command of SLURM printed; ClipmillError with its words when it says no, unless `quiet`."""
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise UsageError(command[0], f"cannot be run: {error.strerror}", "SLURM's commands", "") from error
    if done.returncode and not quiet:
        said = done.stderr.strip() or f"ended with {done.returncode}"
        raise ClipmillError("slurm", said, "a submission that SLURM accepts", f"see sinfo, and {command[-1]}")
    return done.stdout
