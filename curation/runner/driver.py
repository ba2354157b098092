"""The driver: inputs -> pool -> segments -> shards. Holds counts and names only; tasks do the work over files.

Running it again goes on where it stopped: every unit of work is a file named by what it depends on.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from curation.books import ledger, publish, summary, tally
from curation.emit import shards, swap
from curation.job import Job, Segment, make_job
from curation.runner import exchange, tasks
from curation.runner.cluster import Call, Inline, OnRay, cluster, stop_flag
from curation.settings import CurateSettings
from curation.sources.source import Part
from curation.stage import check_stages
from curation.stages import STAGES
from pipeline import storage
from pipeline.contract.manifest import MANIFEST, InputPart, Manifest, ShardEntry, StageCounts
from pipeline.errors import ClipmillError, DataError
from pipeline.log import get_logger
from pipeline.progress import progress
from pipeline.settings import digest_of
from pipeline.storage.lock import locked

log = get_logger("curation")
SUMMARY = "summary.json"

Inputs = list[tuple[int, Part]]  # index of the source, part
Place = Inline | OnRay


def check(settings: CurateSettings) -> None:
    """Validates all that can be known before any work, without Ray: stages fit together, their files and the inputs are
    readable, nothing else is in the output's way. RecipeError with the dotted path of the first fault."""
    check_stages(settings.stages, STAGES.values())
    for number, source in enumerate(settings.sources):
        for at, path in enumerate(source.paths):
            source._expand(path, f"curate.sources.{number}.paths.{at}")


def finished(settings: CurateSettings, *, seed: int) -> Manifest | None:
    """The manifest of what `curate` would make, when that is there and complete. Reads the inputs, to name them."""
    settings = _local_paths(settings)
    return _finished(make_job(settings, seed, [part.id for _, part in _inputs(settings)]))


def curate(
    settings: CurateSettings, *, name: str, seed: int, recipe_digest: str | None = None, quiet: bool = False
) -> Manifest:
    """Makes the dataset at settings.output, or finishes the making of it, or finds that it is finished.

    `recipe_digest` goes into the manifest; by default it is of name, seed and settings.

    Raises RecipeError before any work; Stopped on SIGINT or SIGTERM (what is done is kept); DataError for damaged
    inputs or a stage that failed, naming stage and bucket; StorageError for a full disk; UsageError when another run
    holds the output.
    """
    check_stages(settings.stages, STAGES.values())
    settings = _local_paths(settings)
    inputs = _inputs(settings)
    job = make_job(settings, seed, [part.id for _, part in inputs])
    whole = _finished(job)
    if whole is not None:
        log.info("%s: finished before, nothing to do (%d pairs)", settings.output, whole.num_pairs)
        return whole
    with ExitStack() as stack:
        if swap.is_local(job):
            stack.enter_context(locked(Path(settings.output)))
        manifest = swap.finish_swap(job)
        if manifest is None:
            flag = stack.enter_context(stop_flag())
            place = stack.enter_context(cluster(settings.ray, job, flag))
            digest = recipe_digest or digest_of([name, seed, settings])
            manifest = _Driver(job, place, quiet).run(inputs, name, digest)
        storage.remove(job.work, recursive=True)
    return manifest


def _local_paths(settings: CurateSettings) -> CurateSettings:
    """file:// prefixes cut, so that local is local everywhere."""

    def plain(url: str | None) -> str | None:
        return url[7:] if url and url[:7].lower() == "file://" else url

    return settings.model_copy(update={"output": plain(settings.output), "pool": plain(settings.pool)})


def _inputs(settings: CurateSettings) -> Inputs:
    found: dict[str, tuple[int, Part]] = {}
    for number, source in enumerate(settings.sources):
        for part in source.parts(f"curate.sources.{number}"):
            found.setdefault(part.id, (number, part))
    return [found[part] for part in sorted(found)]


def _finished(job: Job) -> Manifest | None:
    """The manifest of this very run, when it is complete and its shards are there."""
    output = job.settings.output
    if not (storage.exists(storage.join(output, MANIFEST)) and storage.exists(storage.join(output, SUMMARY))):
        return None
    try:
        manifest = Manifest.load(output)
        told = json.loads(storage.read_bytes(storage.join(output, SUMMARY)))
    except (DataError, ValueError):
        return None  # damaged: make it again
    same = told.get("run_digest") == job.run_digest and told.get("manifest_digest") == manifest.digest()
    return manifest if same and swap.is_whole(output, manifest) else None


class _Driver:
    def __init__(self, job: Job, place: Place, quiet: bool) -> None:
        self._job, self._place, self._quiet = job, place, quiet
        self._buckets = range(job.settings.buckets)

    def run(self, inputs: Inputs, name: str, recipe_digest: str) -> Manifest:
        self._sweep()
        counts = self._ingest(inputs)
        self._reopen()
        stages = [each for segment in self._job.segments for each in self._segment(segment)]
        rows = self._reconciled(stages)
        if not sum(rows):
            raise self._nothing_left(stages)
        return self._emit(inputs, counts, stages, rows, name, recipe_digest)

    def _do(self, calls: list[Call], label: str, unit: str, done: int = 0) -> Iterator[tuple[Call, Any]]:
        if not calls:
            return
        with progress(len(calls) + done, label, unit, done=done, quiet=self._quiet) as meter:
            for call, result in self._place.run(calls):
                meter.advance()
                yield call, result

    def _sweep(self) -> None:
        """Temporary files that a killed run left; only in a pool that is ours alone."""
        if self._job.settings.pool is None and swap.is_local(self._job):
            for folder in (*Path(self._job.pool, "parts").glob("*"), *Path(self._job.pool, "columns").glob("*")):
                storage.sweep_temps(str(folder))

    def _ingest(self, inputs: Inputs) -> dict[str, dict[str, int]]:
        """Part id -> counts."""
        counts: dict[str, dict[str, int]] = {}
        calls = []
        for source, part in inputs:
            known = tasks.part_counts(self._job.pool, part.id)
            if known is not None:
                counts[part.id] = known
            else:
                calls.append(Call(tasks.ingest, (source, part), f"reading {part.path}"))
        for call, found in self._do(calls, "reading inputs", "parts", len(counts)):
            counts[call.args[1].id] = found
        for number, source in enumerate(self._job.settings.sources):
            source.check_total([counts[part.id] for at, part in inputs if at == number])
        return counts

    def _reopen(self) -> None:
        """A finished segment whose pairs are freed is done again when the one after it must be.

        That is so when a recipe was changed in the middle of a run: the next segment then has another name.
        """
        job = self._job
        done = [all(tasks.read_counts(job, each, bucket) for bucket in self._buckets) for each in job.segments]
        first = done.index(False) if False in done else 0
        while first > 0:
            before = job.segments[first - 1]
            if all(storage.exists(job.file(before, bucket, ".parquet")) for bucket in self._buckets):
                return
            for bucket in self._buckets:
                storage.remove(job.file(before, bucket, ".json"))
            first -= 1

    def _segment(self, here: Segment) -> list[ledger.Counts]:
        """Runs one segment; returns the counts of its stages, added up over buckets."""
        job = self._job
        found = {bucket: counts for bucket in self._buckets if (counts := tasks.read_counts(job, here, bucket))}
        todo = [bucket for bucket in self._buckets if bucket not in found]
        if todo and here.opener is not None and not exchange.is_folded(job, here):
            opener = job.names[here.opener]
            settle = [Call(tasks.settle, (here.index, slot), f"stage {opener}, slot {slot}") for slot in self._buckets]
            for _ in self._do(settle, f"{opener}: compare", "slots"):
                pass
            for _ in self._place.run([Call(tasks.fold, (here.index,), f"stage {opener}, folding")]):
                pass
        label = ", ".join(self._stage_names(here))
        calls = [
            Call(tasks.segment, (here.index, bucket), f"{label}, bucket {bucket}", here.cpus, here.gpus)
            for bucket in todo
        ]
        for call, counts in self._do(calls, label, "buckets", len(found)):
            found[call.args[1]] = counts
        self._free_before(here)
        totals: list[ledger.Counts] = []
        for bucket in self._buckets:
            for at, plain in enumerate(found[bucket]["stages"]):
                if at == len(totals):
                    totals.append(ledger.Counts(plain["name"], plain["kind"]))
                totals[at].add(ledger.Counts(**plain))
        return totals

    def _stage_names(self, here: Segment) -> list[str]:
        first = ["pool"] if here.index == 0 else []
        used = [at for at in (here.opener, *here.rows) if at is not None]
        return [*first, *(self._job.names[at] for at in used)] or ["emit"]

    def _free_before(self, here: Segment) -> None:
        """Pairs and notes of the segment before are needed no more: disk is bounded by two segments."""
        if here.index == 0:
            return
        before = self._job.segments[here.index - 1]
        for bucket in self._buckets:
            storage.remove(self._job.file(before, bucket, ".parquet"))
            storage.remove(self._job.file(before, bucket, ".notes.parquet"))
            storage.remove(self._job.exchange_file(here, f"settled-{bucket:05d}.parquet"))

    def _reconciled(self, stages: list[ledger.Counts]) -> list[int]:
        """Pairs left in each bucket; an error of ours when the funnel does not come out at zero."""
        last = self._job.segments[-1]
        rows = [(tasks.read_counts(self._job, last, bucket) or {"pairs": 0})["pairs"] for bucket in self._buckets]
        faults = [f"{each.name}: {each.faults()}" for each in stages if each.faults()]
        for before, after in zip(stages, stages[1:], strict=False):
            if (before.pairs_out, before.captions_out) != (after.pairs_in, after.captions_in):
                faults.append(f"{before.name} gave {before.pairs_out} pairs, {after.name} took {after.pairs_in}")
        if stages[-1].pairs_out != sum(rows):
            faults.append(f"{stages[-1].name} gave {stages[-1].pairs_out} pairs, {sum(rows)} are there")
        if faults:
            hint = f"remove {self._job.work} and run the same command again; if it stays, report it"
            raise ClipmillError("curate", f"the funnel does not add up: {'; '.join(faults)}", "", hint)
        return rows

    def _nothing_left(self, stages: list[ledger.Counts]) -> DataError:
        drops = [(number, f"{each.name}.{reason}") for each in stages for reason, number in each.drops.items()]
        most = ", ".join(f"{reason} {number}" for number, reason in sorted(drops, reverse=True)[:4])
        found = f"no pair is left of {stages[0].pairs_in}" + (f"; most went by {most}" if most else "")
        return DataError("curate", found, "at least one pair", "loosen the stage that drops most, or give other inputs")

    def _emit(
        self,
        inputs: Inputs,
        counts: dict[str, dict[str, int]],
        stages: list[ledger.Counts],
        rows: list[int],
        name: str,
        recipe_digest: str,
    ) -> Manifest:
        job = self._job
        if not swap.is_local(job):
            storage.remove(storage.join(job.settings.output, MANIFEST))  # shards are overwritten in place
        cuts = shards.slices(rows, job.settings.emit.pairs_per_shard)
        calls = [Call(shards.emit_shard, (shard, parts), f"shard {shard}") for shard, parts in enumerate(cuts)]
        entries: dict[int, ShardEntry] = {}
        columns: set[str] = set()
        for call, told in self._do(calls, "writing shards", "shards"):
            entries[call.args[0]] = ShardEntry.model_validate(told["entry"])
            columns.update(told["columns"])
        manifest = Manifest(
            name=name,
            num_pairs=sum(rows),
            shards=[entries[shard] for shard in sorted(entries)],
            stages=[StageCounts(**plain) for plain in summary.stage_counts(stages)],
            inputs=[_input(part, counts[part.id]) for _, part in inputs],
            recipe_digest=recipe_digest,
            columns=sorted(columns),
        )
        publish.publish_books(job, swap.target(job), rows)
        storage.publish_json(storage.join(swap.target(job), SUMMARY), self._summary(manifest))
        swap.publish(job, manifest)
        return manifest

    def _summary(self, manifest: Manifest) -> dict[str, Any]:
        whole: dict[str, Any] = {}
        calls = [Call(tally.tally, (bucket,), f"summary of bucket {bucket}") for bucket in self._buckets]
        for _, part in self._do(calls, "summary", "buckets"):
            whole = tally.merge(whole, part)
        return summary.build(self._job, manifest, whole, self._thumbs)

    def _thumbs(self, batches: list[list[dict[str, Any]]]) -> Iterator[tuple[int, list[str | None]]]:
        numbers = {id(batch): number for number, batch in enumerate(batches)}
        calls = [Call(summary.thumbs, (batch,), "thumbnails") for batch in batches]
        for call, made in self._do(calls, "thumbnails", "batches"):
            yield numbers[id(call.args[0])], made


def _input(part: Part, counts: dict[str, int]) -> InputPart:
    path = storage.shown(part.path) if "://" in part.path else storage.basename(part.path)
    copies = {"copies": part.copies} if part.copies else {}
    return InputPart(part=part.id, path=path, bytes=part.bytes, digest=part.id, counts={**counts, **copies})
