"""What the pipeline Job runs: `clipmill reconcile RUN_DIR`, the stages of a run in their order, one at a time.

It keeps nothing in its memory that it could not find again: a stage is started by making an object of a known name, and
how far the run is says what is there (the manifest, the objects, state.json). So it may be killed at any line, and two
of it at once do no more than one. It asks for the object again every WATCH_S at the latest, whatever the watch says.
"""

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline import recipe as recipes
from pipeline.cluster.k8s.api import ApiError, ApiServer, Object, of_pod
from pipeline.cluster.k8s.kinds import POLICY, Kind, Outcome
from pipeline.cluster.k8s.live import (
    CRASHES,
    MAX_RESTARTS,
    PIPELINE,
    RESTARTS,
    find_template,
    live_copy,
    name_of,
)
from pipeline.cluster.node.gate import manifest_step, require_inputs
from pipeline.cluster.rundir import STAGES, RunDir, attempts, control, create, open_run, read_state
from pipeline.cluster.rundir.create import load
from pipeline.errors import DataError, Stopped, UsageError
from pipeline.log import get_logger

log = get_logger("cluster")
RUN, PIPELINE_UID, PIPELINE_JOB = "CLIPMILL_RUN", "CLIPMILL_PIPELINE_UID", "CLIPMILL_PIPELINE_JOB"
WATCH_S, PAUSE_S = 20, 1.0
"""Seconds of one watch, after which control/ is looked at again; and at least between two looks at an object."""
GONE_S = 3600.0
"""Longest wait for the pods of an object to be gone: a node that was lost keeps them until it is back or removed."""


@dataclass(frozen=True)
class Chain:
    """pipeline: the uid of the pipeline Job, the same for all its pods; another one is another submission."""

    api: ApiServer
    run: RunDir
    name: str
    pipeline: str
    watch_s: int = WATCH_S
    pause_s: float = PAUSE_S

    def lead(self) -> None:
        """Stopped on request; DataError when a stage failed for good; ApiError when the API server stays away."""
        recipe = load(self.run)
        for stage in STAGES:
            if not recipe.has(stage):
                continue
            if self._is_complete(stage, recipe):
                log.info("%s: complete", stage)
            else:
                self._lead(stage)
            if stage == "curate":
                self._check_manifest(recipe)

    def _is_complete(self, stage: str, recipe: recipes.Recipe) -> bool:
        """Whatever made it so: another submission, another cluster, or curation by hand."""
        if stage == "curate":
            return bool(manifest_step(recipe))
        return attempts.completed(attempts.events(self.run), stage, recipes.digest(recipe))

    def _check_manifest(self, recipe: recipes.Recipe) -> None:
        if not manifest_step(recipe):
            output = recipe.data["curate"]["output"]
            raise DataError(output, "has no manifest with pairs", "what curation writes last", self._hint("curate"))
        require_inputs(recipe, "train")

    def _lead(self, stage: str) -> None:
        """Starts a stage, or finds it started, and returns when it is complete."""
        kind, template = find_template(self.api, self.name, stage)
        while True:
            found = self._started(kind, template, stage)
            outcome = self._followed(kind, found, stage)
            self._check_control(kind, found)
            if outcome is None:
                log.warning("%s: %s was deleted by somebody, and is started again", stage, found["metadata"]["name"])
                continue
            if outcome.state == "completed":
                self._check_completed(stage)
                log.info("%s: completed", stage)
                return
            notes = _again(template, found, outcome)
            if notes is None:
                where = f"{kind.resource.kind} {found['metadata']['name']}"
                raise DataError(where, f"failed: {outcome.reason} {outcome.message}", "", self._hint(stage))
            log.warning("%s: %s %s; started again", stage, outcome.reason, outcome.message)
            self._delete(kind, found)
            self._create(
                kind, template, notes
            )  # killed before this line, the count begins anew; the wrapper's does not

    def _started(self, kind: Kind, template: Object, stage: str) -> Object:
        """The copy that runs, or has run, for this submission."""
        while True:
            self._check_control(kind, None)
            found = self.api.get(kind.resource, name_of(template))
            if found is None:
                log.info("%s: starting %s %s", stage, kind.resource.kind, name_of(template))
                found = self._create(kind, template, {})
            elif found["metadata"].get("deletionTimestamp"):
                self._wait_gone(kind, found)
                continue
            elif self._is_of_before(found) and kind.outcome(found).ended:
                log.info("%s: %s ended in an earlier submission; it makes way", stage, name_of(template))
                self._delete(kind, found)
                continue
            if found is not None:
                return found

    def _is_of_before(self, found: Object) -> bool:
        return found["metadata"].get("annotations", {}).get(PIPELINE) != self.pipeline

    def _create(self, kind: Kind, template: Object, notes: Mapping[str, str]) -> Object | None:
        """None where one of that name is there already: made by this very request, sent twice, or by another pod."""
        try:
            return self.api.create(kind.resource, live_copy(template, self.pipeline, notes))
        except ApiError as error:
            if error.status != 409:
                raise
            time.sleep(self.pause_s)
            return None

    def _followed(self, kind: Kind, found: Object, stage: str) -> Outcome | None:
        """How it ended; None when it was deleted."""
        name, uid, said = found["metadata"]["name"], found["metadata"]["uid"], None
        while True:
            began = time.monotonic()
            self._check_control(kind, found)
            current = self.api.get(kind.resource, name)
            if current is None or current["metadata"]["uid"] != uid or current["metadata"].get("deletionTimestamp"):
                return None
            outcome = kind.outcome(current)
            if outcome != said:
                log.info("%s: %s%s", stage, outcome.state, f" ({outcome.reason})" if outcome.reason else "")
                said = outcome
            if outcome.ended:
                return outcome
            if not kind.tells_exit_codes:
                self._check_verdict(kind, current, stage)
            for event, changed in self.api.watch(
                kind.resource, name, current["metadata"]["resourceVersion"], self.watch_s
            ):
                if event == "DELETED" or kind.outcome(changed) != said:
                    break
            time.sleep(max(0.0, self.pause_s - (time.monotonic() - began)))

    def _check_verdict(self, kind: Kind, found: Object, stage: str) -> None:
        """Of a kind that would try again whatever its command ends with: what the wrapper has left in state.json."""
        state = read_state(self.run)
        if state is None or state.stage != stage or state.status != "failed" or state.exit_code != DataError.exit_code:
            return
        if state.time >= datetime.fromisoformat(found["metadata"]["creationTimestamp"]).timestamp():
            self._delete(kind, found)
            raise DataError(f"stage {stage}", state.message, "a stage that can work", self._hint(stage))

    def _check_completed(self, stage: str) -> None:
        """A wrapper that was asked to stop, or had nothing to do, ends with 0, too."""
        state = read_state(self.run)
        if state is not None and state.stage == stage and state.status != "completed":
            found = f"its pods ended well, but the run is {state.status}: {state.message}"
            raise DataError(f"stage {stage}", found, "a completed stage", self._hint(stage))

    def _check_control(self, kind: Kind, found: Object | None) -> None:
        why = control.held(self.run)
        if not why:
            return
        if found is not None:
            self._delete(kind, found)  # its pods are sent SIGTERM, save, and have their grace period for it
        raise Stopped(str(self.run.path), why, "", "clipmill submit again goes on with it")

    def _delete(self, kind: Kind, found: Object) -> None:
        """Returns when it and its pods are gone, so that two generations never overlap."""
        self.api.delete(kind.resource, found["metadata"]["name"], found["metadata"]["uid"])
        self._wait_gone(kind, found)

    def _wait_gone(self, kind: Kind, found: Object) -> None:
        name, uid = found["metadata"]["name"], found["metadata"]["uid"]
        _until(
            lambda: (self.api.get(kind.resource, name) or {"metadata": {"uid": None}})["metadata"]["uid"] != uid,
            self.pause_s, f"{kind.resource.kind} {name}",
        )  # fmt: skip

    def _hint(self, stage: str) -> str:
        return f"clipmill logs {self.run.path}, or: kubectl logs -l clipmill/stage={stage} --prefix --tail=50"


def _until(true: Callable[[], bool], pause_s: float, what: str) -> None:
    deadline = time.monotonic() + GONE_S
    while not true():
        if time.monotonic() > deadline:
            hint = "kubectl get pods -o wide: a pod on a lost node stays until the node is back or deleted"
            raise ApiError(what, 0, "StillThere", f"was deleted, but is not gone after {GONE_S:.0f} s", hint)
        time.sleep(pause_s)


def _again(template: Object, found: Object, outcome: Outcome) -> dict[str, str] | None:
    """What to write on the next copy of a stage that failed; None when there is to be none.

    For templates that ask for it (an Indexed Job has no rules for a restart as a whole), the rules of the JobSet: exit
    code 78 ends it, a failure by another rule of the pod failure policy is not counted, a crash is.
    """
    most = template["metadata"].get("annotations", {}).get(MAX_RESTARTS)
    if most is None or outcome.cannot_work:
        return None
    notes = found["metadata"].get("annotations", {})
    crashes = int(notes.get(CRASHES, 0)) + (outcome.reason != POLICY)
    if crashes > int(most):
        return None
    return {CRASHES: str(crashes), RESTARTS: str(int(notes.get(RESTARTS, 0)) + 1)}


def prepared(path: Path, recipe: Path | None, pipeline: str, job: str = "") -> RunDir:
    """The run directory, made where it is not there. The first pod of a pipeline Job submits the run, which ends an
    earlier stop; the others find it submitted, and a stop that was asked for since is one.

    pipeline: the uid of the Job; job: what `submit` calls it, which ends in that."""
    known = RunDir(path.absolute())
    if known.recipe.exists():
        found = [each for each in attempts.events(known) if each["event"] == "submitted"]
        if any(str(id).endswith(pipeline) for each in found for id in each.get("jobs", ())):
            return open_run(path)
    if recipe is None:
        run = open_run(path)
        wanted = load(run)
    else:
        wanted = recipes.load(str(recipe))
    run = create(path, wanted)
    stages = [stage for stage in STAGES if wanted.has(stage)]
    if not stages:
        raise UsageError(str(recipe or path), f"has none of the sections {', '.join(STAGES)}", "a recipe needs one")
    attempts.note(run, "submitted", on="k8s", stages=stages, jobs=[job or pipeline])
    return run


def reconcile(path: Path, recipe: Path | None, environment: Mapping[str, str] = os.environ) -> None:
    """See above. As PID 1 nothing ends it unless it says so: SIGTERM ends it at once, since the next one goes on."""
    signal.signal(signal.SIGTERM, _end)
    name = environment.get(RUN)
    if not name:
        hint = f"outside of its Job: {RUN}=<the label clipmill/run of the templates>"
        raise UsageError(RUN, "is not set", "the run whose templates to start", hint)
    pipeline = environment.get(PIPELINE_UID) or "by hand"
    api = of_pod(environment)
    run = prepared(path, recipe, pipeline, f"{api.namespace}/{environment.get(PIPELINE_JOB, 'pipeline')}/{pipeline}")
    Chain(api, run, name, pipeline).lead()
    log.info("%s: done", run.path)


def _end(number: int, frame: Any) -> None:
    raise SystemExit(1)
