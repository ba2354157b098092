"""What one task does. Plain functions of (job, ...) over files: each skips what is done and publishes whole files."""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.books import evidence, ledger
from curation.emit.gate import gate
from curation.job import EMIT, Job, Segment, check_files
from curation.methods.units import attached, checked, kept_schema, units_of
from curation.pool.join import POOL
from curation.runner import joined
from curation.runner.closing import grouping, measuring, reducing
from curation.runner.closing.feeding import opened
from curation.runner.closing.shares import called
from curation.runner.closing.vectors import resolved
from curation.runner.explained import explained
from curation.stage import Context, Group, Measure, Reduce, Verdicts
from curation.states import last_state
from curation.table import arrow, captions, packs, parquet, schemas
from curation.table.stored import size_of_stored
from pipeline import storage

ASKED = (".closing.pack", ".closing.parquet")
"""What the closers of segments (runner/closing/) leave beside the pairs of a bucket, by suffix."""
_rules: dict[str, Callable[[pa.Table], Verdicts]] = {}  # that this worker process has opened


def segment(job: Job, index: int, bucket: int) -> dict[str, Any]:
    """Runs one segment over one bucket; returns {"pairs": left, "stages": [counts], and what its closer counted}."""
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
    probed = None
    if here.opener is not None:
        before = job.segments[index - 1]
        with explained(f"stage {job.names[here.opener]}, bucket {bucket}"):
            verdicts = closer_of(job, before).verdicts(job, before, bucket, run.pairs)
        if here.opener == len(job.settings.stages):
            probed = verdicts
        else:
            run.apply(here.opener, verdicts, before)
    for at in here.rows:
        run.row_wise(at)
    told: dict[str, int] = {}
    if here.is_last:
        run.gate(probed)
        told["image_bytes"] = pc.sum(size_of_stored(run.pairs), min_count=0).as_py()
    if here.closer is not None:
        with explained(f"stage {job.names[here.closer]}, bucket {bucket}"):
            files, told = closer_of(job, here).ask(job, here, bucket, run.pairs)
        run.files |= files
    run.files[".ledger.parquet"] = parquet.publish_rows(job.file(here, bucket, ".ledger.parquet"), run.ledger())
    left = run.pairs.drop_columns([name for name in here.leaves if name in run.pairs.column_names])
    run.files[".parquet"] = parquet.publish_rows(job.file(here, bucket, ".parquet"), left)
    counts = {"pairs": run.pairs.num_rows, "stages": [c.plain() for c in run.counts], **told}
    files = {storage.basename(job.file(here, bucket, suffix)): note for suffix, note in run.files.items()}
    storage.publish_state(job.file(here, bucket, ".json"), counts, files)
    return counts


def closer_of(job: Job, here: Segment) -> Any:
    """The module that settles what segment `here` ends in (runner/closing/)."""
    stage = job.stage(here.closer if here.closer is not None else -1)
    return reducing if isinstance(stage, Reduce) else grouping if isinstance(stage, Group) else measuring


def read_counts(job: Job, here: Segment, bucket: int) -> dict[str, Any] | None:
    return storage.read_state(job.file(here, bucket, ".json"))


def recheck(job: Job, folder: str, name: str, may_lack: tuple[str, ...] = ()) -> tuple[str, dict[str, Any]]:
    """Makes a unit undone whose state, or a file that it vouches for, is not as it was written; returns what is wrong,
    and the state.

    Done once for everything that a start finds done: what it goes on from is checked as what it publishes.
    """
    state = storage.read_state(storage.join(folder, name), quiet=True)
    faults = storage.faults_of(folder, state["files"], may_lack) if state is not None else [f"{name}: damaged"]
    if faults:
        storage.remove(storage.join(folder, name))
    return "; ".join(faults), state or {}


def free(job: Job, index: int, buckets: Sequence[int]) -> None:
    """Removes pairs and questions of some buckets of a segment."""
    for bucket in buckets:
        for suffix in (".parquet", *ASKED):
            storage.remove(job.file(job.segments[index], bucket, suffix))


class _Run:
    """The pairs of one bucket on their way through the stages of a segment."""

    def __init__(self, job: Job, bucket: int) -> None:
        self.job, self.bucket = job, bucket
        self.pairs: pa.Table = schemas.PAIRS.empty_table()
        self.counts: list[ledger.Counts] = []
        self.files: dict[str, storage.Note] = {}  # by suffix
        self._ledgers: list[pa.Table] = []
        self._shown: evidence.Evidence = {}

    def ledger(self) -> pa.Table:
        whole = pa.concat_tables([ledger.LEDGER.empty_table(), *self._ledgers])
        return evidence.put(whole.sort_by("uid") if whole.num_rows else whole, self._shown)

    def join(self, before_url: str) -> None:
        """The pairs of this bucket, from what all parts say."""
        pairs, verdicts = joined.read(self.job, self.bucket)
        self._apply(POOL, POOL, pairs, verdicts)
        self.files[".before.parquet"] = parquet.publish_rows(before_url, count_texts(self.pairs))

    def apply(self, at: int, verdicts: Verdicts, closed: Segment | None = None) -> None:
        """The verdicts of stage `at`, which ended the segment `closed`."""
        stage, name = self.job.stage(at), self.job.names[at]
        with explained(f"stage {name}, bucket {self.bucket}"):
            asks = closed is not None and isinstance(stage, Reduce) and evidence.shows(stage)
            state = last_state(self.job, closed) if asks and closed else None
            pairs = self.pairs
            self._apply(name, stage.kind, pairs, verdicts)
            self._shown[name] = evidence.of_stage(stage, self.job.seed, pairs, verdicts, state)

    def row_wise(self, at: int) -> None:
        stage, ctx = self.job.stage(at), self.job.context(at)
        with explained(f"stage {self.job.names[at]}, bucket {self.bucket}"):
            pairs = resolved(self.job, stage, self.pairs, self.bucket, at)
            verdicts = (
                inline(stage, pairs, self.pairs, ctx) if isinstance(stage, Measure) else _opened(stage, ctx)(pairs)
            )
        self.apply(at, verdicts)

    def gate(self, probed: Verdicts | None) -> None:
        """The stage "emit": what is left must be writable by the contract."""
        with explained(f"stage {EMIT}, bucket {self.bucket}"):
            self._apply(EMIT, EMIT, self.pairs, gate(self.pairs, probed, self.job.settings.emit))

    def _apply(self, name: str, kind: str, pairs: pa.Table, verdicts: Verdicts) -> None:
        self.pairs, gone, counts = ledger.apply(name, kind, pairs, verdicts)
        self._ledgers.append(gone)
        self.counts.append(counts)


def count_texts(pairs: pa.Table) -> pa.Table:
    """text | pairs: how many pairs have `text` as their default caption; sorted by text."""
    counted = pc.value_counts(pc.drop_null(captions.first(pairs)))
    table = pa.table({"text": counted.field("values"), "pairs": counted.field("counts")})
    return table.sort_by("text") if table.num_rows else table


def inline(stage: Measure, pairs: pa.Table, bare: pa.Table, ctx: Context) -> Verdicts:
    """The columns of a Measure that is not kept; each distinct text once. `bare`: pairs with keys for vectors."""
    units = units_of(stage, pairs)
    at = None
    if stage.unit == "text":
        encoded = arrow.whole(units.column("text")).dictionary_encode()
        units, at = pa.table({"text": encoded.dictionary}), encoded.indices
    function, batch = opened(stage, ctx), ctx.batch or stage.batch
    keys = pa.array([""] * units.num_rows, pa.string())
    made = [
        checked(stage, keys.slice(start, batch), called(function, units.slice(start, batch).combine_chunks()))
        for start in range(0, units.num_rows, batch)
    ]
    rows = packs.concat(made, kept_schema(stage))
    return attached(stage, bare, rows if at is None else rows.take(at).combine_chunks())


def _opened(stage: Any, ctx: Context) -> Callable[[pa.Table], Verdicts]:
    """The function of a Rule; what it loads is kept in this process, by its seed, too: it may draw."""
    key = f"{stage.kind}-{stage.digest()}-{ctx.seed}"
    if key not in _rules:
        _rules[key] = stage.open(ctx)
    return _rules[key]
