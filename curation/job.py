"""What will be done and where it will lie, as pure data: segments, their digests, their files.

Stages that look at one pair at a time and ask for the same resources form one segment, done by one task per bucket. A
stage that needs more (a Reduce, a Group, a Measure whose columns are kept) ends a segment, is settled between all
buckets, and opens the next segment with its verdicts. A segment is named by the digest of everything it depends on, so
that a rerun finds what is done and never what is stale.

    <output>/_work/<k>-<digest>/bucket-00000.parquet          pairs left after the segment
                               /bucket-00000.ledger.parquet   pairs it dropped, and what stages show
                               /bucket-00000.closing.pack     (or .parquet) what the stage that ends it asks for
                               /bucket-00000.before.parquet   (first segment) default captions and their counts
                               /bucket-00000.json             counts; written last: done
                  /<k>-<closing digest>/...                   between segment k and the next (runner/closing/)
                  /runs-<digest>/..., /redirects-<digest>/... on the way to the joined table (runner/joined.py)
    <pool>/joined/<digest>/...                                pairs before any stage, for every recipe
"""

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from curation.methods.pictures.probe import Probe
from curation.pool import join
from curation.settings import ActorSettings, CurateSettings, PlacementSettings
from curation.stage import Context, Group, Measure, Reduce, Stage
from curation.stage_order import added, names_of
from curation.table.uids import Cut, power_of_two
from pipeline import storage
from pipeline.draws import keyed_u64
from pipeline.errors import DataError, RecipeError
from pipeline.outputs import WORK
from pipeline.settings import digest_of

FORMAT = 4  # raise it when the files below change their meaning
ROWS_PER_BUCKET = 100_000  # at most, so that a task holds a few hundred MB however large the crawl
EMIT = "emit"
"""The name under which the gate before the shards is reported, the last of every recipe."""
_NOTES = (
    2  # how notes of a Group are cut into slots and runs: what another version left half done is not mixed with ours
)
_WIDE = 64  # bytes of a column that is left out where nobody reads it any more
_LEAST_ROWS, _ENOUGH_BUCKETS, _MOST_BUCKETS = 16_000, 16, 65_536


@dataclass(frozen=True)
class Segment:
    """opener, closer: number of the stage whose verdicts come first, that is asked for last; rows: those between.
    digest: of all up to what is asked for; closing: of all up to what is answered."""

    index: int
    opener: int | None
    rows: tuple[int, ...]
    closer: int | None
    cpus: float
    gpus: float
    digest: str
    closing: str
    is_last: bool
    memory: int = 0
    actors: ActorSettings | None = None
    models: str = ""  # digest of what its stages load
    leaves: tuple[str, ...] = ()  # wide columns that its closer and all stages behind it have no use for

    @property
    def folder(self) -> str:
        return f"{self.index}-{self.digest}"

    @property
    def closing_folder(self) -> str:
        return f"{self.index}-{self.closing}"


@dataclass(frozen=True)
class StageFile:
    """A file that the stage `stage` reads, named by its setting; `digest` of its content."""

    stage: int
    setting: str
    path: str
    digest: str


@dataclass(frozen=True)
class Job:
    """All a task has to know. Shipped to the workers once."""

    settings: CurateSettings
    seed: int
    parts: tuple[str, ...]
    segments: tuple[Segment, ...]
    names: tuple[str, ...]
    digest: str
    cut: Cut
    joined_digest: str  # of what the inputs are joined to, whatever is done with it then
    rows: int = 0  # mentions and images of all parts
    files: tuple["StageFile", ...] = ()  # that stages read, as they were where the job was started
    inputs: tuple[str, ...] = ()  # ids of the input files, which name the job; `parts` are what they are in the pool
    turn: str = ""  # our token where the output cannot be locked (curation/emit/turns.py)

    @property
    def pool(self) -> str:
        return self.settings.pool_folder

    @property
    def work(self) -> str:
        return storage.join(self.settings.output, WORK)

    @property
    def emit_folder(self) -> str:
        return storage.join(self.work, f"emit-{self.digest}")

    @property
    def buckets(self) -> int:
        return self.cut.buckets

    @property
    def joined_folder(self) -> str:
        return storage.join(self.pool, "joined", self.joined_digest)

    @property
    def runs_folder(self) -> str:
        return storage.join(self.work, f"runs-{self.joined_digest}")

    @property
    def redirects_folder(self) -> str:
        return storage.join(self.work, f"redirects-{self.joined_digest}")

    def file(self, segment: Segment, bucket: int, suffix: str) -> str:
        return storage.Scratch(storage.join(self.work, segment.folder, f"bucket-{bucket:05d}{suffix}"))

    def closing_file(self, segment: Segment, name: str) -> str:
        return storage.Scratch(storage.join(self.work, segment.closing_folder, name))

    def stage(self, at: int) -> Stage:
        """Stage `at` of the recipe; behind the last of them the probe, where nothing else measures images."""
        return self.settings.stages[at] if at < len(self.settings.stages) else Probe()

    def context(self, at: int) -> Context:
        """What stage `at` is told: its seed is that of the recipe, another one for the second of a kind and on."""
        stage, name = self.stage(at), self.names[at]
        seed = self.seed if name == stage.kind else keyed_u64(self.seed, name)
        asks = self.placement(stage)
        return Context(seed, self.rows, asks.batch, asks.gpus)

    def placement(self, stage: Stage) -> PlacementSettings:
        return self.settings.placement.get(stage.kind, PlacementSettings())


def buckets_for(rows: int) -> int:
    """How many buckets hold `rows` rows of the pool: small crawls few, so that nothing is cut for its own sake, then as
    many as keep all cores busy, and beyond that as many as memory asks for. A power of two."""
    busy = min(rows // _LEAST_ROWS, _ENOUGH_BUCKETS)
    return min(power_of_two(max(busy, -(-rows // ROWS_PER_BUCKET))), _MOST_BUCKETS)


def make_job(
    settings: CurateSettings,
    seed: int,
    inputs: Sequence[str],
    cut: Cut | None = None,
    rows: int = 0,
    parts: Sequence[str] | None = None,
) -> Job:
    """`inputs` are part ids, `parts` what they are in the pool where some were read in ranges; the order is no matter.
    `cut`: of their uids into buckets, and how many `rows` they have, once they are read; until then the job has its
    name, and no cut that means anything."""
    inputs = tuple(sorted(set(inputs)))
    parts = inputs if parts is None else tuple(sorted(set(parts)))
    cut = cut or Cut.even(settings.buckets or 1)
    # How the pairs are written is the last segment's business: other shards cost no stage a second time.
    joined = digest_of([join.VERSION, list(parts), list(cut.edges)])
    segments = _segments(settings, digest_of([FORMAT, joined, seed]))
    # Ranges and buckets are left out: they never change the result, so they must not make a finished job unfinished.
    digest = digest_of([FORMAT, list(inputs), seed, settings.emit, [stage.digest() for stage in settings.stages]])
    files = tuple(
        StageFile(at, setting, *found)
        for at, stage in enumerate(settings.stages)
        for setting, found in stage.file_digests().items()
    )
    names = (*names_of(settings.stages), EMIT)
    return Job(settings, seed, parts, segments, names, digest, cut, joined, rows, files, inputs)


def read_from(job: Job, parts: Sequence[str]) -> Job:
    """The same job, once it is known what its inputs are in the pool."""
    made = make_job(job.settings, job.seed, job.inputs, parts=parts)
    return replace(made, files=job.files, turn=job.turn)


def cut_for(job: Job, cut: Cut, rows: int) -> Job:
    """The same job, cut into buckets once its parts are read."""
    made = make_job(job.settings, job.seed, job.inputs, cut, rows, job.parts)
    return replace(made, files=job.files, turn=job.turn)


def check_files(job: Job, stages: Iterable[int | None]) -> None:
    """Every file that these stages read is here what it was where the job was started; else DataError naming this node.

    A worker reads it from its own disk: another file there would be measured under the name of the first.
    """
    wanted = set(stages)
    for file in job.files:
        if file.stage not in wanted:
            continue
        node, where = socket.gethostname(), f"curate.stages.{file.stage}.{file.setting}"
        hint = "put the same file on every node, or name it by a path that all nodes share"
        expected = f"the digest {file.digest}, as where the job was started"
        try:
            _, digest = job.stage(file.stage).file_digests()[file.setting]
        except RecipeError as error:
            raise DataError(where, f"node {node}: {error.found}", expected, hint) from None
        if digest != file.digest:
            raise DataError(where, f"node {node}: {file.path} has the digest {digest}", expected, hint)


def asks_around(stage: Stage) -> bool:
    """Whether it takes more than the pairs of one bucket, or columns that others may have measured."""
    return isinstance(stage, (Reduce, Group)) or keeps_columns(stage)


def keeps_columns(stage: Stage) -> bool:
    """Whether what it measures lies in the pool, for every recipe."""
    return isinstance(stage, Measure) and stage.store != "inline"


def needs_probe(stages: Sequence[Stage]) -> bool:
    """Whether no stage measures what the contract must know of an image."""
    return not any("width" in added(stage) for stage in stages)


def _segments(settings: CurateSettings, start: str) -> tuple[Segment, ...]:
    stages = [*settings.stages, *([Probe()] if needs_probe(settings.stages) else [])]
    cuts: list[tuple[int | None, list[int], int | None]] = []  # opener, rows, closer
    opener: int | None = None
    rows: list[int] = []
    for at, stage in enumerate(stages):
        if asks_around(stage):
            cuts.append((opener, rows, at))
            opener, rows = at, []
        elif _cut_off(settings, stages, opener, rows, at):
            cuts.append((opener, rows, None))
            opener, rows = None, [at]
        else:
            rows.append(at)
    cuts.append((opener, rows, None))
    segments, closing = [], start
    for index, (first, middle, last) in enumerate(cuts):
        is_last = index == len(cuts) - 1
        named = [stages[i].digest() for i in middle] + ([stages[last].first_digest()] if last is not None else [])
        named += [_NOTES] if last is not None and isinstance(stages[last], Group) else []
        leaves = left_out(stages, max([i for i in (first, *middle) if i is not None], default=-1) + 1)
        digest = digest_of([closing, named, settings.emit if is_last else None, *([leaves] if leaves else [])])
        closing = digest if last is None else digest_of([digest, stages[last].digest()])
        opens = [first] if first is not None and _judges_apart(settings, stages[first]) else []
        asks = [_asks(settings, stages[i]) for i in (*opens, *middle)] or [(1.0, 0.0, 0, None)]
        cpus, gpus, memory = (max(each) for each in zip(*(a[:3] for a in asks), strict=True))
        actors = next((a[3] for a in asks if a[3] is not None), None)
        models = digest_of([stages[i].digest() for i in middle])
        asked = (memory, actors, models, leaves)
        segments.append(Segment(index, first, tuple(middle), last, cpus, gpus, digest, closing, is_last, *asked))
    return tuple(segments)


def left_out(stages: Sequence[Stage], done: int) -> tuple[str, ...]:
    """Columns of a kilobyte, squares of grey, that a segment need not write behind the first `done` stages: those that
    were added and that neither its closer nor a stage behind that reads. Light ones go along: the books, the report and
    the shards show them."""
    wide = [
        field.name
        for stage in stages[:done]
        for field in stage.adds
        if pa.types.is_fixed_size_binary(field.type)
        and field.type.byte_width >= _WIDE
        and field.name not in stage.exports
    ]
    read = {name for stage in stages[done:] for name in stage.reads}
    return tuple(sorted(set(wide) - read))


def _judges_apart(settings: CurateSettings, stage: Stage) -> bool:
    """Whether its verdicts want a GPU, as its rounds do: those of many centres are as much work as a round."""
    return isinstance(stage, Reduce) and _asks(settings, stage)[1] > 0


def _cut_off(
    settings: CurateSettings, stages: Sequence[Stage], opener: int | None, rows: Sequence[int], at: int
) -> bool:
    """Whether stage `at` asks for something else than those that the segment has so far."""
    before = rows[-1] if rows else opener
    if before is None or (not rows and not _judges_apart(settings, stages[before])):
        return False
    return _asks(settings, stages[at]) != _asks(settings, stages[before])


def _asks(settings: CurateSettings, stage: Stage) -> tuple[float, float, int, ActorSettings | None]:
    placement = settings.placement.get(stage.kind, PlacementSettings())
    return placement.cpus, placement.gpus, placement.memory, placement.actors
