"""The driver: inputs -> pool -> segments -> shards. Holds counts and names only; tasks do the work over files.

Running it again goes on where it stopped: every unit of work is a file named by what it depends on.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

from curation.books import ledger, summary
from curation.emit import book_tasks, ownership, shards, swap, turns
from curation.job import EMIT, Job, Segment, cut_for, keeps_columns, make_job, read_from
from curation.pool.join import POOL
from curation.pool.store import ROWS
from curation.runner import joined, resume, tasks
from curation.runner.calls import Call, pool_of
from curation.runner.cluster import cluster
from curation.runner.ending import funnel, summing
from curation.runner.fetching import phase
from curation.runner.fetching.phase import Fetched
from curation.runner.inputs import naming, pooling
from curation.runner.inputs.naming import Inputs, Parts
from curation.runner.on_machine.inline import Inline
from curation.runner.on_ray.place import OnRay
from curation.runner.on_ray.starting import Starting
from curation.runner.places import check_places, with_local_paths
from curation.runner.preflight import Input, preflight
from curation.settings import CurateSettings
from curation.stage_order import faults_of, try_out
from curation.stages import STAGES
from pipeline import storage
from pipeline.cluster.rundir.feed import feed_of
from pipeline.cluster.rundir.output import locked
from pipeline.contract.manifest import InputPart, Manifest, ShardEntry, StageCounts
from pipeline.errors import DataError, RecipeError, StorageError, raise_all
from pipeline.log import get_logger
from pipeline.outputs import SUBSET
from pipeline.progress import progress
from pipeline.settings import digest_of
from pipeline.signals import StopSignals
from pipeline.storage import Note, turn

log = get_logger("curation")

Place = Inline | OnRay | Starting


def check(settings: CurateSettings) -> None:
    """Validates all that can be known before any work, without Ray: stages fit together, their files and the inputs are
    readable, output and pool are ours or empty, and apart from the inputs. RecipeError with the dotted paths of all
    faults that a look can find; only where there are none models are loaded."""
    _checked(settings)


def _checked(settings: CurateSettings) -> Inputs:
    faults: list[RecipeError] = []
    files: Inputs = []
    try:
        files = naming.listed(settings)
        check_places(settings, files)
    except RecipeError as error:
        faults.append(error)
    try:
        phase.check(settings)
    except RecipeError as error:
        faults.append(error)
    raise_all([*faults, *faults_of(settings.stages, STAGES.values())])
    try_out(settings.stages)
    return files


def finished(settings: CurateSettings, *, seed: int) -> Manifest | None:
    """The manifest of what `curate` would make, when that is there and complete. Reads no input: None also where the
    pool does not know the content of one; `curate` then learns it, and does no more if it turns out to be finished."""
    settings = with_local_paths(settings)
    if settings.fresh:
        return None
    files = naming.listed(settings)
    parts = naming.parts_of(settings, files, naming.known(settings, files))
    job = _named(settings, seed, parts)
    return None if job is None else _finished(job)


def curate(
    settings: CurateSettings,
    *,
    name: str,
    seed: int,
    recipe_digest: str | None = None,
    quiet: bool = False,
    driver: "type[Driver] | None" = None,
    is_ours: bool = False,
    meanwhile: Callable[[], None] | None = None,
) -> Manifest:
    """Makes the dataset at settings.output, or finishes the making of it, or finds that it is finished.

    `recipe_digest` goes into the manifest; by default it is of name, seed and settings. `is_ours`: this process is a
    command of ours and nothing else, so that workers may be forks of it. `meanwhile`: what the caller will have to do
    in any case, and has done by a thread while tasks are at work.

    Raises RecipeError before any work; Stopped on SIGINT or SIGTERM, or when Ray was killed (what is done is kept);
    DataError for damaged inputs or a stage that failed, naming stage and bucket; StorageError for a full disk, and
    when another run holds the output.
    """
    files = _checked(settings)
    settings = with_local_paths(settings)
    digests = naming.known(settings, files)
    parts = naming.parts_of(settings, files, digests)
    named = _named(settings, seed, parts)
    job = named or make_job(settings, seed, [])
    whole = None if settings.fresh or named is None else _finished(job)
    if whole is not None:
        _end_removal(job)
        return _nothing_to_do(job, whole)
    with ExitStack() as stack:
        signals = stack.enter_context(StopSignals())  # from before the lock, which says that somebody is at work here
        job = _entered(stack, job)
        manifest, made = swap.finish_swap(job) if named is not None else None, None
        if manifest is None:
            sizes = [each.bytes for _, each in files]
            downloads = settings.fetching is not None
            place = stack.enter_context(cluster(settings.ray, signals, sizes, settings.needs_ray, downloads, is_ours))
            work = (driver or Driver)(job, place, quiet)
            place.ready(partial(preflight, job=job, inputs=_one_each(files)))
            if meanwhile is not None:
                Thread(target=meanwhile, daemon=True).start()  # workers are not forks of this process from here on
            work.look(files)
            again = settings.model_copy(update={"fresh": False})  # how it was asked for leaves no trace
            digest = recipe_digest or digest_of([name, seed, again])
            if named is None:
                parts = work.parts_of(files, digests) if parts is None else parts
                manifest = work.name(parts, phase.finished(settings, parts))
            if manifest is None:
                manifest = work.run(parts or [], name, digest)
            job, made = work.job, work.made
        leave(job, made)
    return manifest


def _named(settings: CurateSettings, seed: int, parts: Parts | None, fetched: Fetched | None = None) -> Job | None:
    """The job by its inputs, what is downloaded among them; None while one of them is not known."""
    if parts is not None and fetched is None:
        fetched = phase.finished(settings, parts)
    if parts is None or (settings.fetching is not None and fetched is None):
        return None
    return make_job(settings, seed, [*(part.id for _, part in parts), *([fetched.id] if fetched else [])])


def _done_before(job: Job) -> Manifest | None:
    """What `curate` looks for before any work, where what it is called was not known then."""
    whole = None if job.settings.fresh else _finished(job)
    return swap.finish_swap(job) if whole is None else _nothing_to_do(job, whole)


def _nothing_to_do(job: Job, whole: Manifest) -> Manifest:
    log.info("%s: finished before, nothing to do (%d pairs)", job.settings.output, whole.num_pairs)
    return whole


def _entered(stack: ExitStack, job: Job) -> Job:
    """The job with the output ours alone: locked while the stack is open, or where there are no locks, in turn."""
    held = swap.is_local(job) and stack.enter_context(locked(Path(job.settings.output)))
    if not held:
        ownership.owned(job.settings.output)  # nobody else's: nothing has been put there yet
        job = replace(job, turn=turn.take(job.settings.output))
        stack.enter_context(turns.explained(job))
    with turns.in_turn(job):
        _claim(job)
    return job


def leave(job: Job, made: Job | None = None) -> None:
    """Removes what only the run itself needed, the folder that says that it has not ended as the last. What is kept, of
    `made`, the job as it was cut, or of all, is for one with another threshold late in the recipe, or other shards."""
    if job.turn:
        turn.end(job.settings.output, job.turn)
    kept: list[str] = []
    if job.settings.keep and made is None:
        kept = [name for name in storage.list_folders(job.work) if name[0].isdigit()]
    elif job.settings.keep and made is not None:
        kept = [name for each in made.segments for name in (each.folder, each.closing_folder)]
    ownership.remove_work(job.work, job.emit_folder, kept)


def _claim(job: Job) -> None:
    """Output and pool are marked as ours before anything is put there; `fresh` begins anew, once."""
    output = job.settings.output
    mine = ownership.claim(output)
    ownership.claim(job.pool, ownership.STORE)
    if job.settings.fresh and not mine.remaking:
        ownership.remove_work(job.work, job.emit_folder)
        ownership.publish_owned(output, replace(mine, remaking=True))


def _end_removal(job: Job) -> None:
    """A job killed while it removed its working folder left some of it."""
    if storage.exists(job.emit_folder):
        with ExitStack() as stack:
            leave(_entered(stack, job))


def _one_each(files: Inputs) -> list[Input]:
    """One file of each source."""
    first = naming.one_each(files)
    return [Input(f"curate.sources.{at}.paths", each.path, each.files[0].bytes) for at, each in sorted(first.items())]


def _finished(job: Job) -> Manifest | None:
    """The manifest of this very job, when it is complete and its files are there with their sizes."""
    output = job.settings.output
    mine = ownership.owned(output)
    if mine.job_digest != job.digest or mine.remaking:
        return None
    try:
        manifest = Manifest.load(output)
    except (DataError, StorageError) as error:
        log.warning("%s: %s; it is made again", error.where, error.found)
        return None
    faults = swap.faults(output, mine)
    if faults:
        log.warning("%s: %s; it is made again", storage.shown(output), "; ".join(faults[:3]))
    return manifest if not faults and mine.manifest_digest == manifest.digest() else None


class Driver:
    """One run, from its inputs to the dataset. Another one that stops sooner may be given to `curate`."""

    def __init__(self, job: Job, place: Place, quiet: bool) -> None:
        self._place, self._quiet, self._feed = place, quiet, feed_of("curate")
        self.made: Job | None = None  # the job as it was cut, once its dataset is being written
        self._begin(job)

    def _begin(self, job: Job) -> None:
        self.job, self._buckets = job, range(job.buckets)
        self._known: resume.States = {}
        self._told: dict[int, dict[int, Any]] = {}  # segment -> bucket -> what its task told
        self._measured = 0  # inputs, by stages that keep their columns
        self._place.give(job)

    def look(self, files: Inputs) -> None:
        naming.looked_at(self.job, files, self._do)

    def parts_of(self, files: Inputs, digests: naming.Digests) -> Parts:
        """The parts, once tasks have read what is not known of the files."""
        digests = naming.hashed(self.job, files, digests, self._do)
        return naming.parts_of(self.job.settings, files, digests) or []

    def name(self, parts: Parts, fetched: Fetched | None) -> Manifest | None:
        """Names the job by its inputs, unless what is downloaded is not known. Returns its manifest when it is
        finished."""
        job = _named(self.job.settings, self.job.seed, parts, fetched)
        if job is None:
            return None
        self._begin(replace(job, files=self.job.files, turn=self.job.turn))
        return _done_before(self.job)

    def run(self, parts: Parts, name: str, recipe_digest: str) -> Manifest:
        self._sweep()
        pool = self._ingest(parts)
        fetched = None
        if self.job.settings.fetching is not None:
            fetched = phase.fetch(self.job, parts, pool, self._begin, self._do, self._quiet)
            whole = self.name(parts, fetched)
            if whole is not None:
                return whole
        inputs = [summing.input_of(part, pool.parts[part.id]) for _, part in parts]
        inputs += [fetched.as_input()] if fetched else []
        origin = summing.origin_of(self.job, parts, pool.parts, fetched)
        self._begin(read_from(self.job, list(pool.pieces)))
        rows_read = sum(each.get(table, 0) for each in pool.pieces.values() for table in ROWS)
        cut = joined.cut_of(self.job, rows_read, self._do)
        self._begin(cut_for(self.job, cut, rows_read))
        self._known = resume.recheck_segments(self.job, self._do)
        joined.make(self.job, pool.pieces, self._do)
        resume.reopen(self.job, self._known)
        stages = [each for segment in self.job.segments for each in self._segment(segment)]
        if not self._measured and any(keeps_columns(stage) for stage in self.job.settings.stages):
            log.info("measured nothing: all columns were there")
        rows = [self._told[len(self.job.segments) - 1][bucket]["pairs"] for bucket in self._buckets]
        funnel.check(self.job, stages, sum(rows))
        self.made = self.job
        return self._emit(inputs, stages, rows, name, recipe_digest, origin)

    def _do(self, calls: list[Call], label: str, unit: str, done: int = 0) -> Iterator[tuple[Call, Any]]:
        if not label:
            yield from self._place.run(calls)
        if not label or not calls:
            return
        with progress(len(calls) + done, label, unit, done=done, quiet=self._quiet) as meter:
            for number, (call, result) in enumerate(self._place.run(calls, label), done + 1):
                meter.advance()
                self._feed.task(number, len(calls) + done, label)
                yield call, result

    def _sweep(self) -> None:
        """Temporary files that a killed job left; only in a pool that is ours alone."""
        if self.job.settings.pool is None and swap.is_local(self.job):
            pool = Path(self.job.pool)
            for folder in (pool, *pool.glob("*/"), *pool.glob("*/*/")):
                storage.sweep_temps(str(folder))

    def _ingest(self, parts: Parts) -> pooling.Pooled:
        pool = pooling.pooled(self.job, parts, self._do)
        for number, source in enumerate(self.job.settings.sources):
            source.check_total([pool.parts[part.id] for at, part in parts if at == number])
        return pool

    def _segment(self, here: Segment) -> list[ledger.Counts]:
        """Runs one segment; returns the counts of its stages, added up over buckets."""
        job = self.job
        states = {bucket: self._known.get(job.file(here, bucket, ".json")) for bucket in self._buckets}
        found = {bucket: counts for bucket, counts in states.items() if counts is not None}
        todo = [bucket for bucket in self._buckets if bucket not in found]
        if todo and here.opener is not None:
            before = self.job.segments[here.index - 1]
            self._measured += tasks.closer_of(job, before).close(job, before, self._told[before.index], self._do) or 0
        label = ", ".join(self._stage_names(here))
        asked = (here.cpus, here.gpus, here.memory, pool_of(here.models, here))
        calls = [Call(tasks.segment, (here.index, bucket), f"{label}, bucket {bucket}", *asked) for bucket in todo]
        for call, counts in self._do(calls, label, "buckets", len(found)):
            found[call.args[1]] = counts
        self._told[here.index] = found
        resume.free(job, here, self._do)
        totals: list[ledger.Counts] = []
        for bucket in self._buckets:
            for at, plain in enumerate(found[bucket]["stages"]):
                if at == len(totals):
                    totals.append(ledger.Counts(plain["name"], plain["kind"]))
                totals[at].add(ledger.Counts(**plain))
        return totals

    def _stage_names(self, here: Segment) -> list[str]:
        first = [POOL] if here.index == 0 else []
        used = [at for at in (here.opener, *here.rows) if at is not None]
        return [*first, *(self.job.names[at] for at in used)] or [EMIT]

    def _emit(
        self,
        inputs: list[InputPart],
        stages: list[ledger.Counts],
        rows: list[int],
        name: str,
        recipe_digest: str,
        origin: dict[str, Any],
    ) -> Manifest:
        job = self.job
        image_bytes = sum(told.get("image_bytes", 0) for told in self._told[len(job.segments) - 1].values())
        cuts = shards.slices(rows, shards.most_pairs(sum(rows), image_bytes, job.settings.emit))
        swap.begin(job, len(cuts))
        calls = [Call(shards.emit_shard, (shard, slices), f"shard {shard}") for shard, slices in enumerate(cuts)]
        calls += [
            Call(book_tasks.emit_book, (book, rows if book == SUBSET else ()), book) for book in swap.book_names(job)
        ]
        entries: dict[int, ShardEntry] = {}
        columns: set[str] = set()
        notes: dict[str, Note] = {}
        for call, told in self._do(calls, "writing shards and books", "files"):
            if call.function is book_tasks.emit_book:
                notes[call.args[0]] = told
                continue
            entries[call.args[0]] = ShardEntry.model_validate(told["entry"])
            columns.update(told["columns"])
            notes.update(told["files"])
        manifest = Manifest(
            name=name,
            num_pairs=sum(rows),
            shards=[entries[shard] for shard in sorted(entries)],
            stages=[StageCounts(**plain) for plain in summary.stage_counts(stages)],
            inputs=inputs,
            recipe_digest=recipe_digest,
            columns=sorted(columns),
        )
        notes |= book_tasks.emit_summary(job, *summing.summary_of(job, manifest, stages, origin, self._do))
        swap.publish(job, manifest, notes)
        return manifest
