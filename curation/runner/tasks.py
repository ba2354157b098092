"""What one task does. Plain functions of (job, ...) over files: each skips what is done and publishes whole files."""

import traceback
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.books import ledger
from curation.emit.gate import EMIT, gate
from curation.job import Job, Segment, check_files
from curation.pool.columns import ColumnCache, measure_images, measure_texts
from curation.pool.join import POOL
from curation.pool.store import ImageReader, PoolSink, part_counts
from curation.runner import exchange, joined
from curation.stage import Global, ImageMeasure, Rule, Stage, TextMeasure, Verdicts
from curation.table import captions, parquet, schemas
from pipeline import storage
from pipeline.errors import ClipmillError, DataError

_opened: dict[str, Callable] = {}  # measure stages this worker process has loaded, by digest


def ingest(job: Job, source: int, part: Any) -> dict[str, int]:
    """Reads one part into the pool; returns its counts."""
    done = part_counts(job.pool, part.id)
    if done is not None:
        return done
    with explained(f"curate.sources.{source}: {part.path}"), PoolSink(job.pool, part.id) as sink:
        sink.finish(job.settings.sources[source].ingest(part, sink))
    return part_counts(job.pool, part.id) or {}


def segment(job: Job, index: int, bucket: int) -> dict[str, Any]:
    """Runs one segment over one bucket; returns {"pairs": left, "stages": [counts]}."""
    here = job.segments[index]
    done = read_counts(job, here, bucket)
    if done is not None:
        return done
    check_files(job, (here.opener, *here.rows, here.closer))
    run = _Run(job, bucket)
    if index == 0:
        run.join(job.file(here, bucket, ".before.parquet"))
    else:
        run.pairs = storage.read_parquet(job.file(job.segments[index - 1], bucket, ".parquet"))
    if here.opener is not None:
        folded = exchange.read_folded(job, here, bucket)
        opener, seed = _global(job, here), job.seed_of(here.opener)
        run.stage(here.opener, lambda pairs: opener.judge(pairs, folded, seed))
    for at in here.rows:
        run.row_wise(at)
    if here.is_last:
        run.gate()
    if here.closer is not None:
        stage = job.settings.stages[here.closer]
        with explained(f"stage {job.names[here.closer]}, bucket {bucket}"):
            notes = stage.survey(run.pairs, job.seed_of(here.closer))
        run.files[".notes.parquet"] = exchange.publish_notes(job, here, bucket, notes)
    run.files[".ledger.parquet"] = parquet.publish_rows(job.file(here, bucket, ".ledger.parquet"), run.ledger())
    run.files[".parquet"] = parquet.publish_rows(job.file(here, bucket, ".parquet"), run.pairs)
    counts = {"pairs": run.pairs.num_rows, "stages": [c.plain() for c in run.counts]}
    files = {storage.basename(job.file(here, bucket, suffix)): note for suffix, note in run.files.items()}
    storage.publish_state(job.file(here, bucket, ".json"), counts, files)
    return counts


def read_counts(job: Job, here: Segment, bucket: int) -> dict[str, Any] | None:
    return storage.read_state(job.file(here, bucket, ".json"))


def recheck(job: Job, folder: str, name: str, may_lack: tuple[str, ...] = ()) -> str:
    """Makes a unit undone whose state, or a file that it vouches for, is not as it was written; returns what is wrong.

    Done once for everything that a start finds done: what it goes on from is checked as what it publishes.
    """
    state = storage.read_state(storage.join(folder, name), quiet=True)
    faults = storage.faults_of(folder, state["files"], may_lack) if state is not None else [f"{name}: damaged"]
    if faults:
        storage.remove(storage.join(folder, name))
    return "; ".join(faults)


class _Run:
    """The pairs of one bucket on their way through the stages of a segment."""

    def __init__(self, job: Job, bucket: int) -> None:
        self.job, self.bucket = job, bucket
        self.range = job.cut.range_of(bucket)
        self.pairs: pa.Table = schemas.PAIRS.empty_table()
        self.counts: list[ledger.Counts] = []
        self.files: dict[str, storage.Note] = {}  # by suffix
        self._ledgers: list[pa.Table] = []
        self._reader = ImageReader(job.pool)

    def ledger(self) -> pa.Table:
        whole = pa.concat_tables([ledger.LEDGER.empty_table(), *self._ledgers])
        return whole.sort_by("uid") if whole.num_rows else whole

    def join(self, before_url: str) -> None:
        """The pairs of this bucket, from what all parts say."""
        pairs, verdicts = joined.read(self.job, self.bucket)
        self._apply(POOL, POOL, pairs, verdicts)
        self.files[".before.parquet"] = parquet.publish_rows(before_url, count_texts(self.pairs))

    def stage(self, at: int, judge: Callable[[pa.Table], Verdicts]) -> None:
        name, kind = self.job.names[at], self.job.settings.stages[at].kind
        with explained(f"stage {name}, bucket {self.bucket}"):
            self._apply(name, kind, self.pairs, judge(self.pairs))

    def row_wise(self, at: int) -> None:
        stage, seed = self.job.settings.stages[at], self.job.seed_of(at)
        if isinstance(stage, Rule):
            self.stage(at, lambda pairs: stage.judge(pairs, seed))
        else:
            self.stage(at, lambda pairs: self._measured(stage, pairs))

    def _measured(self, stage: Stage, pairs: pa.Table) -> Verdicts:
        batch = self.job.placement(stage).batch
        digest = stage.digest()
        cache = ColumnCache(self.job.pool, digest, *self.range, stage.adds)
        opened: Any = lambda: _open(stage, digest)  # noqa: E731 - opened only when something must be measured
        if isinstance(stage, ImageMeasure):
            return measure_images(pairs, stage, opened, cache, self._reader, batch)
        if isinstance(stage, TextMeasure):
            return measure_texts(pairs, stage, opened, cache, batch)
        raise TypeError(f"{type(stage).__name__} is none of ImageMeasure, TextMeasure, Rule, Global")

    def gate(self) -> None:
        """The stage "emit": what is left must be writable by the contract."""
        with explained(f"stage {EMIT}, bucket {self.bucket}"):
            self._apply(EMIT, EMIT, self.pairs, gate(self.pairs, self._measured, self.job.settings.emit))

    def _apply(self, name: str, kind: str, pairs: pa.Table, verdicts: Verdicts) -> None:
        self.pairs, gone, counts = ledger.apply(name, kind, pairs, verdicts)
        self._ledgers.append(gone)
        self.counts.append(counts)


def count_texts(pairs: pa.Table) -> pa.Table:
    """text | pairs: how many pairs have `text` as their default caption; sorted by text."""
    counted = pc.value_counts(pc.drop_null(captions.first(pairs)))
    table = pa.table({"text": counted.field("values"), "pairs": counted.field("counts")})
    return table.sort_by("text") if table.num_rows else table


def _open(stage: Any, digest: str) -> Callable:
    key = f"{stage.kind}-{digest}"
    if key not in _opened:
        _opened[key] = stage.open()
    return _opened[key]


class explained:
    """Any exception but ours leaves as a DataError that says where, and at which line of which file."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, ClipmillError) or not isinstance(error, Exception):
            return
        frames = traceback.extract_tb(trace)
        at = f"{frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
        homes = ("/curation/stages/", "/curation/sources/")
        ours = next((f for f in reversed(frames) if any(home in f.filename for home in homes)), None)
        if ours is not None and ours is not frames[-1]:
            at = f"{ours.filename}:{ours.lineno} in {ours.name}, from there {at}"
        text = " ".join(str(error).split())[:500]
        raise DataError(self._where, f"{type(error).__name__}: {text}", "no exception", f"look at {at}") from error


def settle(job: Job, index: int, slot: int) -> None:
    """One slot of the exchange that opens segment `index`."""
    here = job.segments[index]
    check_files(job, [here.opener])
    with explained(f"stage {_opener_name(job, here)}, settling slot {slot}"):
        exchange.settle(job, here, slot, _global(job, here))


def fold(job: Job, index: int) -> None:
    here = job.segments[index]
    check_files(job, [here.opener])
    with explained(f"stage {_opener_name(job, here)}, folding"):
        exchange.fold(job, here, _global(job, here))


def _opener_name(job: Job, here: Segment) -> str:
    return "" if here.opener is None else job.names[here.opener]


def _global(job: Job, here: Segment) -> Global:
    assert here.opener is not None  # only segments behind an exchange are asked
    return job.settings.stages[here.opener]
