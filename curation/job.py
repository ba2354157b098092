"""What will be done and where it will lie, as pure data: segments, their digests, their files.

Row-wise stages that follow each other and ask for the same resources form one segment, done by one task per bucket.
A Global stage ends a segment (its survey) and opens the next (its judge); between them lies the exchange. A segment is
named by the digest of everything it depends on, so that a rerun finds what is done and never what is stale.

    <output>/_work/<k>-<digest>/bucket-00000.parquet          pairs left after the segment
                               /bucket-00000.ledger.parquet   pairs it dropped
                               /bucket-00000.notes.parquet    notes of the Global stage that ends it
                               /bucket-00000.before.parquet   (first segment) default captions and their counts
                               /bucket-00000.json             counts; written last: done
                  /<k>-<digest>/settled-00000.parquet, folded...  the exchange that opens segment k
                  /runs-<digest>/..., /redirects-<digest>/...     on the way to the joined table (runner/joined.py)
    <pool>/joined/<digest>/...                                    pairs before any stage, for every recipe
"""

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from curation.pool import join
from curation.settings import CurateSettings, PlacementSettings
from curation.stage import Global, Stage, names_of
from curation.table.uids import Cut, power_of_two
from pipeline import storage
from pipeline.draws import keyed_u64
from pipeline.errors import DataError, RecipeError
from pipeline.outputs import WORK
from pipeline.settings import digest_of

FORMAT = 2  # raise it when the files below change their meaning
ROWS_PER_BUCKET = 200_000  # at most, so that a task holds a few hundred MB however large the crawl
_LEAST_ROWS, _ENOUGH_BUCKETS, _MOST_BUCKETS = 1_000, 16, 65_536


@dataclass(frozen=True)
class Segment:
    """opener, closer: index in settings.stages of the Global stage judged first, surveyed last; rows: row-wise ones."""

    index: int
    opener: int | None
    rows: tuple[int, ...]
    closer: int | None
    cpus: float
    gpus: float
    digest: str
    is_last: bool

    @property
    def folder(self) -> str:
        return f"{self.index}-{self.digest}"


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
    files: tuple["StageFile", ...] = ()  # that stages read, as they were where the job was started
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
        return storage.join(self.work, segment.folder, f"bucket-{bucket:05d}{suffix}")

    def exchange_file(self, segment: Segment, name: str) -> str:
        return storage.join(self.work, segment.folder, name)

    def seed_of(self, at: int) -> int:
        """The seed of stage `at`: that of the recipe, and another one for the second of a kind and those after it."""
        name = self.names[at]
        return self.seed if name == self.settings.stages[at].kind else keyed_u64(self.seed, name)

    def placement(self, stage: Stage) -> PlacementSettings:
        return self.settings.placement.get(stage.kind, PlacementSettings())


def buckets_for(rows: int) -> int:
    """How many buckets hold `rows` rows of the pool: small crawls few, so that nothing is cut for its own sake, then as
    many as keep all cores busy, and beyond that as many as memory asks for. A power of two."""
    busy = min(rows // _LEAST_ROWS, _ENOUGH_BUCKETS)
    return min(power_of_two(max(busy, -(-rows // ROWS_PER_BUCKET))), _MOST_BUCKETS)


def make_job(settings: CurateSettings, seed: int, parts: Sequence[str], cut: Cut | None = None) -> Job:
    """`parts` are part ids; their order is no matter. `cut`: of their uids into buckets, once they are read; until then
    the job has its name, and no cut that means anything."""
    parts = tuple(sorted(set(parts)))
    cut = cut or Cut.even(settings.buckets or 1)
    # How the pairs are written is the last segment's business: other shards cost no stage a second time.
    joined = digest_of([join.VERSION, list(parts), list(cut.edges)])
    segments = _segments(settings, digest_of([FORMAT, joined, seed]))
    # The cut into buckets is left out: it never changes the result, so it must not make a finished job unfinished.
    digest = digest_of([FORMAT, list(parts), seed, settings.emit, [stage.digest() for stage in settings.stages]])
    files = tuple(
        StageFile(at, setting, *found)
        for at, stage in enumerate(settings.stages)
        for setting, found in stage.file_digests().items()
    )
    return Job(settings, seed, parts, segments, tuple(names_of(settings.stages)), digest, cut, joined, files)


def cut_for(job: Job, cut: Cut) -> Job:
    """The same job, cut into buckets once its parts are read."""
    return replace(make_job(job.settings, job.seed, job.parts, cut), files=job.files, turn=job.turn)


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
            _, digest = job.settings.stages[file.stage].file_digests()[file.setting]
        except RecipeError as error:
            raise DataError(where, f"node {node}: {error.found}", expected, hint) from None
        if digest != file.digest:
            raise DataError(where, f"node {node}: {file.path} has the digest {digest}", expected, hint)


def _segments(settings: CurateSettings, start: str) -> tuple[Segment, ...]:
    cuts: list[tuple[int | None, list[int], int | None]] = []  # opener, rows, closer
    opener: int | None = None
    rows: list[int] = []
    for at, stage in enumerate(settings.stages):
        if isinstance(stage, Global):
            cuts.append((opener, rows, at))
            opener, rows = at, []
        elif rows and _asks(settings, stage) != _asks(settings, settings.stages[rows[-1]]):
            cuts.append((opener, rows, None))
            opener, rows = None, [at]
        else:
            rows.append(at)
    cuts.append((opener, rows, None))
    segments, digest = [], start
    for index, (first, middle, last) in enumerate(cuts):
        used = [i for i in (first, *middle, last) if i is not None]
        is_last = index == len(cuts) - 1
        digest = digest_of([digest, [settings.stages[i].digest() for i in used], settings.emit if is_last else None])
        asks = [_asks(settings, settings.stages[i]) for i in used] or [(1.0, 0.0)]
        cpus, gpus = max(a[0] for a in asks), max(a[1] for a in asks)
        segments.append(Segment(index, first, tuple(middle), last, cpus, gpus, digest, is_last))
    return tuple(segments)


def _asks(settings: CurateSettings, stage: Stage) -> tuple[float, float]:
    placement = settings.placement.get(stage.kind, PlacementSettings())
    return placement.cpus, placement.gpus
