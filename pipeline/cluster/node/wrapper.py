"""`clipmill node RUN_DIR STAGE`: one attempt at a stage as one node sees it, from its number to its exit code."""

import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import chdir, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType

from pipeline import recipe as recipes
from pipeline import storage
from pipeline.cluster.node import gate, joining, meeting, verdict
from pipeline.cluster.node.committed import committed
from pipeline.cluster.node.place import ADDRESS, NODES, PORT, RANK, Place, of_stage, place_of
from pipeline.cluster.node.stage import Stage, end_all, inherit_orphans
from pipeline.cluster.node.verdict import CRASHED, DONE, NEVER, STOPPED, UNFIT, Verdict
from pipeline.cluster.node.watch import Watch
from pipeline.cluster.rundir import STAGES, RunDir, attempts, control, lock, open_run
from pipeline.cluster.rundir.create import about, load
from pipeline.cluster.rundir.paths import ATTEMPT, RUN_DIR
from pipeline.cluster.rundir.state import Fault, State, read_state, write_state
from pipeline.errors import ClipmillError, Stopped, StorageError, UsageError
from pipeline.log import get_logger
from pipeline.recipe import Recipe

log = get_logger("node")
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
COMMAND = (sys.executable, "-m", "pipeline.cli")
POLL_S = 0.1
SETTLE_S = 10.0
"""After one node has failed the others have so long to say what they found; node 0 waits so long for their words."""


class Asked:
    """Notes that a signal has asked for a stop, from before the attempt has its number."""

    def __init__(self) -> None:
        self.number = 0
        for number in SIGNALS:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number


def run_node(path: Path, stage: str, environment: Mapping[str, str] = os.environ) -> int:
    """The exit code, as verdict.py lists them; words on standard error where it is not 0."""
    asked = Asked()
    inherit_orphans()
    try:
        run = open_run(path)
        if stage not in STAGES:
            raise UsageError(stage, "is no stage", f"one of {', '.join(STAGES)}", f"clipmill node {path} train")
        place, recipe = place_of(environment), load(run)
        if not recipe.has(stage):
            raise UsageError(str(run.recipe), f"has no section `{stage}`", "what is to be run", "leave this stage out")
        reason = _nothing_to_do(run, recipe, stage)
        if reason:
            print(f"{run.path}: {stage}: nothing to do, {reason}")
            return DONE
        with chdir(_home(run)):
            return Node(run, recipe, stage, place, environment, asked).run()
    except ClipmillError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return _code_of(error)


def _code_of(error: ClipmillError) -> int:
    """A node that cannot even write to the run directory is unfit; what is wrong with a recipe is never tried again."""
    if isinstance(error, StorageError):
        return UNFIT
    return CRASHED if error.exit_code == CRASHED else STOPPED if isinstance(error, Stopped) else NEVER


def _home(run: RunDir) -> Path:
    """Where it was submitted, so that relative paths mean what they meant there, to the stage and to who waits for its
    inputs and counts what it has made. Here, where that is no folder of this machine."""
    folder = about(run).get("folder")
    return Path(folder) if isinstance(folder, str) and os.path.isdir(folder) else Path.cwd()


def _nothing_to_do(run: RunDir, recipe: Recipe, stage: str) -> str:
    if attempts.completed(attempts.events(run), stage, recipes.digest(recipe)):
        return "it was completed before"
    return control.held(run)


def _fault_of(error: ClipmillError) -> Fault:
    if isinstance(error, StorageError):
        return "node"
    return "config" if error.exit_code == UsageError.exit_code else "data" if error.exit_code == NEVER else "crash"


class Node:
    """This node's part in one attempt."""

    def __init__(
        self, run: RunDir, recipe: Recipe, stage: str, place: Place, environment: Mapping[str, str], asked: Asked
    ) -> None:
        self._dir, self._recipe, self._stage, self._place = run, recipe, stage, place
        self._environment, self._asked = environment, asked
        self.attempt = 0
        self._before: attempts.Event = {}

    @property
    def _is_first(self) -> bool:
        return self._place.rank == 0

    def run(self) -> int:
        address = self._begin() if self._is_first else self._join()
        here = meeting.Here(self._dir, self.attempt, self._place) if self._is_first else None
        try:
            failures = self._failures() if self._is_first else 0
            if failures >= self._place.max_failures:
                found = Verdict("failed", "crash", _spent(failures))
            else:
                gate.require_inputs(self._recipe, self._stage)
                found = self._worked(address)
        except ClipmillError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            found = Verdict("failed", _fault_of(error), str(error))
        finally:
            if here is not None:
                here.end()
        return self._end(found)

    def _begin(self) -> str:
        """Node 0: numbers the attempt and takes the run. Returns where rank 0 will be met."""
        run, place = self._dir, self._place
        if control.asked(run, "stop") == "":  # meant for the attempt before
            control.clear(run, "stop")
        control.clear(run, "save")
        self.attempt = lock.number(run)
        address = f"{place.address or joining.own_address()}:{place.port or joining.free_port()}"
        lock.take(run, self.attempt, place.owner, address)
        self._before = self._reached()
        attempts.note(
            run, "start", attempt=self.attempt, stage=self._stage, owner=place.owner, nodes=place.nodes,
            host=joining.own_address(), recipe=recipes.digest(self._recipe), **self._before,
        )  # fmt: skip
        write_state(run, self.attempt, stage=self._stage, status="running", owner=place.owner)
        return address

    def _join(self) -> str:
        """Another node: waits until node 0 of the same launch has the run."""
        found = meeting.attempt_of(self._dir, self._place, lambda: self._asked.number)
        self.attempt = found.attempt
        return found.address

    def _failures(self) -> int:
        """In a row before this attempt. A run whose attempts are cut off before they can say so must end, too."""
        return attempts.failures_in_a_row(attempts.events(self._dir), self._stage)

    def _worked(self, address: str) -> Verdict:
        """Starts the stage, watches over it, and says how it ended."""
        variables = self._variables(address)
        if self._stage == "curate" and self._place.nodes > 1:
            asked, place = self._asked, self._place
            ray = joining.Joining(self._dir, self.attempt, place, address, variables, lambda: bool(asked.number))
            try:
                if not self._is_first:
                    return joining.worker(ray)
                variables = joining.head(ray)
                return self.watched(variables)
            finally:
                end_all()
                ray.clean()
        return self.watched(variables)

    def _variables(self, address: str) -> dict[str, str]:
        host, _, port = address.rpartition(":")
        place, own = self._place, {RUN_DIR: str(self._dir.path), ATTEMPT: str(self.attempt)}
        own["CLIPMILL_JOB_ID"] = (
            f"{self._dir.id}-{recipes.digest(self._recipe)}"  # one job, however often it is started
        )
        if place.nodes > 1:
            own |= {RANK: str(place.rank), NODES: str(place.nodes), ADDRESS: host, PORT: port}
        else:
            own |= {RANK: "0", NODES: "1"}
        return {**of_stage(self._environment), **own}

    def watched(self, variables: dict[str, str]) -> Verdict:
        """The stage to its end: told to stop once, ended when it hangs, is overtaken, or outlives its grace."""
        file, words = self._dir.log(self.attempt, self._place.rank), (*COMMAND, self._stage, str(self._dir.recipe))
        with storage.storage_errors(file):
            stage = Stage(words, variables, file)
        watch = Watch(self._dir, self.attempt, self._stage, self._place)
        try:
            while stage.poll() is None:
                if self._asked.number or watch.stop_asked():
                    stage.tell()
                found = watch.reason_to_end(stage)
                if found is not None:
                    stage.end()
                    return found
                time.sleep(POLL_S)
        finally:
            stage.end()
        assert stage.code is not None
        told = bool(self._asked.number or stage.told)
        asked = told or self._stage != "curate"  # a curation stops by itself, too: Ray was lost, a budget is spent
        return verdict.of_process(stage.code, file, told, asked, self._state())

    def _state(self) -> State | None:
        with suppress(ClipmillError):
            state = read_state(self._dir)
            return state if state is not None and state.attempt == self.attempt else None
        return None

    def _step(self) -> int:
        """What there is to go on from: the newest checkpoint's step; for curation 1 with its manifest."""
        if self._stage == "curate":
            return gate.manifest_step(self._recipe)
        state = read_state(self._dir)
        return state.step if state is not None and state.stage == self._stage else 0

    def _reached(self) -> attempts.Event:
        """The same, and of a stage without checkpoints what it has committed besides."""
        more = committed(self._recipe, self._stage)
        return {"step": self._step(), **({} if more is None else {"committed": more})}

    def _end(self, found: Verdict) -> int:
        """Leaves this node's words for the others; node 0 decides for all of them."""
        self._leave(found)
        decided = self._decided(found) if self._is_first else self._told(found)
        if decided.message and decided.exit_code:
            print(f"{self._stage}: attempt {self.attempt}: {decided.message}", file=sys.stderr, flush=True)
        assert decided.exit_code is not None
        return decided.exit_code

    def _leave(self, found: Verdict) -> None:
        with suppress(ClipmillError):
            storage.publish_json(str(self._dir.verdict(self.attempt, self._place.rank)), verdict.as_dict(found))

    def _decided(self, found: Verdict) -> Verdict:
        run, place = self._dir, self._place
        if found.status == "failed" and place.nodes > 1:
            found = verdict.closest_to_cause([found, *self._of_others()])
        if lock.overtaken(run, self.attempt) is not None:
            decided = replace(found, status="failed", fault="crash", exit_code=NEVER)
            self._leave(decided)
            return decided
        # An end that was asked for is no failure, and has no time to lose.
        reached = {"step": self._step()} if found.status == "stopped" and found.asked else self._reached()
        failures = 0 if attempts.advanced(self._before, reached) else self._failures() + 1
        code = verdict.exit_code_of(found, control.held(run), place.in_srun, failures, place.max_failures)
        if code == NEVER and found.fault not in ("config", "data") and failures >= place.max_failures:
            found = replace(found, message=f"{_spent(failures)}; the last one: {found.message}")
        decided = replace(found, exit_code=code)
        attempts.note(
            run, "end", attempt=self.attempt, stage=self._stage, **reached, recipe=recipes.digest(self._recipe),
            status=decided.status, message=decided.message, asked=decided.asked, exit_code=code,
            **{"class": decided.fault},
        )  # fmt: skip
        changes = {"status": decided.status, "class": decided.fault, "message": decided.message, "exit_code": code}
        write_state(run, self.attempt, **changes, **({"step": reached["step"]} if self._stage == "curate" else {}))
        self._leave(decided)
        return decided

    def _of_others(self) -> list[Verdict]:
        """What the other nodes found, of those that say so within moments."""
        found: dict[int, Verdict] = {}
        deadline = time.monotonic() + SETTLE_S
        while len(found) < self._place.nodes - 1 and time.monotonic() < deadline:
            for node in range(1, self._place.nodes):
                told = verdict.read_verdict(self._dir, self.attempt, node)
                if told is not None:
                    found[node] = told
            if any(each.fault in ("config", "data") for each in found.values()):
                break
            time.sleep(POLL_S)
        return list(found.values())

    def _told(self, found: Verdict) -> Verdict:
        """What node 0 has decided; what this node makes of its own end where node 0 is not heard of."""
        deadline = time.monotonic() + 6 * SETTLE_S
        while time.monotonic() < deadline:
            decided = verdict.read_verdict(self._dir, self.attempt, 0)
            if decided is not None and decided.exit_code is not None:
                return decided
            time.sleep(POLL_S)
        code = verdict.exit_code_of(found, control.held(self._dir), self._place.in_srun, 0, self._place.max_failures)
        return replace(found, exit_code=code)


def _spent(failures: int) -> str:
    return f"{failures} attempts in a row without a newer checkpoint, manifest or finished part"
