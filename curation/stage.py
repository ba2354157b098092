"""What a stage is. Pure: no ray, no files but those a stage names, no clock, no state between calls.

A stage is a frozen settings model with a `kind`, in one file of curation/stages/, listed in the table there. What it
does decides the sort; subclass exactly one:

    Measure    inputs of an image, a text, a caption or a pair -> columns     each distinct input once, for every recipe
    Generate   the same, the result being captions                            each answer kept before it counts
    Rule       a table of pairs -> Verdicts, row by row
    Reduce     one small state of the whole set: map, merge in a tree, finish, judge; in rounds where it must
    Group      pairs that must know of each other: survey, settle group by group, judge; in rounds where it must

Tables of pairs hold the live pairs of one bucket, sorted by uid, with the columns of schemas.PAIRS and all columns
added so far. No result may depend on which pairs share a bucket, a batch or a task: tests/curation/test_stages_cut.py
holds every stage of the table to that. Random draws come from pipeline.draws, keyed by the seed of the Context.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple

import pyarrow as pa

from curation.showing import Against as Against
from curation.showing import Counted as Counted
from curation.showing import Labels as Labels
from curation.showing import Picks as Picks
from curation.showing import Scores as Scores
from curation.showing import Section as Section
from curation.table.file_digests import file_digest
from pipeline.settings import Settings, digest_of


class Context(NamedTuple):
    """What a stage is told besides its pairs.

    seed   of this stage: the recipe's, and another one for the second of a kind and those after it
    rows   of the crawl before any stage, about: for choices of speed that change no result
    batch  inputs a Measure is to be given at once
    gpus   that its placement asks for: a choice of speed, too
    piece  of a Reduce: what its last round in pieces has kept of one, by number
    """

    seed: int = 0
    rows: int = 0
    batch: int | None = None
    gpus: float = 0.0
    piece: Callable[[int], pa.Table] | None = None


@dataclass(frozen=True)
class Verdicts:
    """What a deciding stage says about a table of n pairs.

    reason         string array of length n; null keeps the pair. Short words with underscores ("too_small")
    detail         string array of length n or None: what belongs to the reason (the uid of the survivor, the rule hit)
    captions       replacement caption lists of length n, or None for no change. May hold fewer captions (their loss is
                   counted in caption_drops) or more (captions of removed copies merged in)
    caption_drops  reason -> number of captions removed from the lists, also from pairs dropped for having none left
    columns        columns to add to the pairs (n rows; must be those of the stage's `adds`), or None
    counts         what else is to be counted (answers that failed, by reason): for summary.json
    picks          what `Stage.shown` of a stage that generates has to show, beside the captions that it changed
    answers        of a stage that generates, for the report: row of the pair | of: the caption that was asked about, or
                   null | text | reason why it is not used, or null
    """

    reason: pa.Array | pa.ChunkedArray
    detail: pa.Array | pa.ChunkedArray | None = None
    captions: pa.Array | pa.ChunkedArray | None = None
    caption_drops: dict[str, int] = field(default_factory=dict)
    columns: pa.Table | None = None
    counts: dict[str, int] = field(default_factory=dict)
    picks: tuple[Picks, ...] = ()
    answers: pa.Table | None = None


class Stage(Settings):
    """What all sorts share.

    reads        columns that must exist before: of PAIRS or an earlier stage; `captions.<field>` for a caption field
    adds         fields this stage adds, to the pair or (caption_fields) to each caption; names must be new
    added_names  those names, where `adds` is a property because a type (the width of a vector) depends on settings
    version      raise it when the code would give other results for the same settings
    file_fields  names of settings that hold the path of a file (str, or str | None); the content of the file, not its
                 path, goes into the digest, and a missing file is a RecipeError before any work. A folder stands for
                 all files in it, at any depth. Where settings hold several, override `files`
    after_first  names of settings that the first map or survey does not look at: what it made serves every value
                 of them
    exports      which of `adds` go into every pair's KEY.json (null and NaN are left out)
    detail_is_survivor  the detail of a drop is the uid of the pair that stays for it: the report shows them as a group
    hides_images        who is dropped here must not be shown around: the report has no thumbnail of them
    told_in_words       text columns it adds that have few values (languages, some hundred at most): the report counts
                        them here and among what is kept
    """

    kind: str
    reads: ClassVar[tuple[str, ...]] = ()
    adds: ClassVar[tuple[pa.Field, ...]] = ()
    added_names: ClassVar[tuple[str, ...]] = ()
    caption_fields: ClassVar[bool] = False
    version: ClassVar[int] = 1
    file_fields: ClassVar[tuple[str, ...]] = ()
    after_first: ClassVar[tuple[str, ...]] = ()
    exports: ClassVar[tuple[str, ...]] = ()
    detail_is_survivor: ClassVar[bool] = False
    hides_images: ClassVar[bool] = False
    told_in_words: ClassVar[tuple[str, ...]] = ()

    def cuts(self) -> dict[str, float]:
        """Thresholds to draw into the report's histograms: "width", "height", "aspect" or "caption_words" -> value."""
        return {}

    def check(self, where: str, before: Sequence["Stage"] = ()) -> None:
        """Faults that need a look at a file, or at the stages before: RecipeError naming `where` (the dotted path of
        this stage). No work."""
        for name, path in self.files().items():
            file_digest(path, f"{where}.{name}")

    def try_out(self, where: str) -> None:
        """Faults that only show when something is loaded (a model, which may have to be downloaded): RecipeError. Asked
        when all else is in order."""

    def files(self) -> dict[str, str]:
        """Path of every file or folder that a setting names, by the setting: `weights`, or dotted, `lists.0.path`."""
        paths = {name: getattr(self, name) for name in self.file_fields}
        return {name: path for name, path in paths.items() if path is not None}

    def file_digests(self) -> dict[str, tuple[str, str]]:
        """(path, digest of its content here) of every file that this stage reads, by the name of its setting. What a
        run depends on: each node checks that its own file is the one that the job was started with."""
        return {name: (path, file_digest(path, f"{self.kind}.{name}")) for name, path in self.files().items()}

    def identity(self) -> dict[str, Any]:
        """What its results depend on, besides its inputs and the seed: settings, with contents in place of paths."""
        plain = self.model_dump(mode="json")
        for name, (_, digest) in self.file_digests().items():
            at: Any = plain
            *way, last = name.split(".")
            for step in way:
                at = at[int(step)] if isinstance(at, list) else at[step]
            at[last] = digest
        return plain

    def digest(self) -> str:
        """16 hex naming `identity` and `version`."""
        return digest_of([self.version, self.identity()])

    def first_digest(self) -> str:
        """As `digest`, of what is done before the last step."""
        identity = self.identity()
        return digest_of([self.version, {name: identity[name] for name in identity if name not in self.after_first}])

    def labels(self) -> Labels | None:
        """What the numbers stand for that it adds, where it adds labels (concepts, say)."""
        return None

    def sections(self, counts: dict[str, Any], state: pa.Table | None) -> list[Section]:
        """What the report says of this stage alone. `counts`: of the manifest, and `others`, what its Verdicts counted;
        `state`: of a Reduce."""
        return []

    def shown(self, pairs: pa.Table, verdicts: "Verdicts", state: pa.Table | None) -> list[Scores | Picks]:
        """What the report shows of one bucket, with pictures. `pairs`: as this stage saw them, with the columns that it
        added. Reasons are in the report without it, and so are captions that it changed, copies and what it dropped."""
        return []

    def held_against(self, names: Sequence[str]) -> Mapping[str, Against]:
        """What the `against` of its Picks stand for; those that it does not find are left out."""
        return {}


Function = Callable[[pa.Table], Any]
"""A table of inputs -> a table of one row each; a coroutine function may return it later."""


class Measure(Stage):
    """Adds columns computed from inputs alone. `open` loads what is needed (a model, say) once per worker process and
    returns the function; it is given tables of at most `batch` rows, gathered from all buckets:

    unit image    image: large_binary                                  one row for each distinct image
         text     text: string                                         one row for each distinct text
         caption  the fields named in `reads` as captions.<field>, under their own name, and pair columns named there
         pair     the columns named in `reads`; captions as lists of structs of the fields read

    `image` may be read by the units caption and pair, too. A column that a Measure with store "vectors" added comes as
    the vectors themselves. The table returned has one row per input, the columns `adds`, and optionally a string column
    `reason`: where it is not null the pair (units text and caption: the caption) is dropped. A bad input is a reason,
    never an exception. Where one row's result could depend on its neighbours (a batched matrix product), the function
    pads to a fixed shape.

    store    columns  kept in the pool by a hash of the inputs' values: measured once however many pairs, buckets and
                      recipes have the same
             vectors  the same, for wide columns: the table holds the key alone, later stages that read the column get
                      what it stands for
             inline   computed where it is needed, bucket by bucket, and not kept: for what is cheaper than to look up
    actors   whether it runs on workers that live as long as the measuring does and own their device
    """

    unit: ClassVar[Literal["image", "text", "caption", "pair"]]
    store: ClassVar[Literal["columns", "vectors", "inline"]] = "columns"
    actors: ClassVar[bool] = False
    batch: ClassVar[int] = 8192

    def open(self, ctx: Context) -> Function:
        raise NotImplementedError

    def kept_digest(self) -> str:
        """16 hex naming what its columns depend on, besides their inputs."""
        return self.digest()


ANSWER = pa.struct(
    [
        pa.field("text", pa.string()),
        pa.field("score", pa.float32()),
        pa.field("finish", pa.string()),
        pa.field("tokens_in", pa.int32()),
        pa.field("tokens_out", pa.int32()),
        pa.field("failed", pa.string()),  # a short reason why there is no text, or ""
        pa.field("passing", pa.bool_()),
    ]
)
ANSWERS = pa.field("answers", pa.list_(ANSWER))


class Said(NamedTuple):
    """What answers come to: texts and scores, with the unit that each is of (rising), and the reason why it is not used
    (None: it is); and of units that were not asked about why, and how many."""

    unit: Sequence[int]
    texts: Sequence[str]
    scores: Sequence[float | None]
    reasons: Sequence[str | None]
    not_asked: Mapping[str, int] = MappingProxyType({})


class Generate(Measure):
    """A Measure that asks a model. The runner sends what `requests` say to its `backend`, makes each answer durable
    before it counts, and keeps it as it came, under `kept_digest`; what is made of it, `said`, is worked out where
    pairs meet their answers, so that other checks ask nobody.

    Texts become captions behind those that are there (a text that the pair has already is not added again), with
    `provenance`; or, by the role column, the pair's column of that name.
    """

    adds: ClassVar[tuple[pa.Field, ...]] = ()
    batch: ClassVar[int] = 32
    backend: Any
    samples: int
    ask_again: int

    def subjects(self, units: pa.Table) -> list[str | None]:
        """32 hex naming what is asked about each unit; None: it is not. An image is its sha256 here."""
        raise NotImplementedError

    def requests(self, inputs: pa.Table, keys: Sequence[str]) -> list[list[Any]]:
        """What is asked for each row of inputs (curation/generation/request.py), nothing sent. Pure."""
        raise NotImplementedError

    def said(self, units: pa.Table, answers: list[list[dict[str, Any]] | None]) -> Said:
        """What comes of the answers of each unit; None where it was not asked about."""
        raise NotImplementedError

    def asked(self, units: pa.Table) -> list[str]:
        """For the report: what the prompt was told of each unit, in words."""
        return [""] * units.num_rows

    def terms(self) -> Any:
        """What answers cost (Terms there)."""
        raise NotImplementedError

    def provenance(self) -> dict[str, str]:
        """source, model, prompt_version of the captions."""
        raise NotImplementedError

    def shown(self, pairs: pa.Table, verdicts: Verdicts, state: pa.Table | None) -> list[Scores | Picks]:
        return list(verdicts.picks)


class Rule(Stage):
    """Decides on each pair alone. One that needs reference data overrides `open`, which runs once a worker."""

    def open(self, ctx: Context) -> Callable[[pa.Table], Verdicts]:
        return lambda pairs: self.judge(pairs, ctx)

    def judge(self, pairs: pa.Table, ctx: Context) -> Verdicts:
        raise NotImplementedError


@dataclass(frozen=True)
class Again:
    """What `Reduce.finish` returns when it takes another round: over all pairs, or (not `asks`) over pieces alone."""

    state: pa.Table
    asks: bool = True


class Piece(NamedTuple):
    """What comes of a piece. kept: for later rounds and the verdicts, `Context.piece` has it; told: what `finish` must
    know of it, small."""

    kept: pa.Table
    told: pa.Table


class Reduce(Stage):
    """Decides by one small state of the whole set.

    map     one bucket, and the state of the round before (None in the first) -> partial
    merge   partials -> one, no larger than what the set itself bounds (entries, bins, clusters). Associative and
            commutative to the bit: whole numbers, no sums of floats
    finish  the partial of all -> the state, or Again(state) for one more round
    judge   one bucket + the last state -> Verdicts

    What is too wide for one place (the sums of a million clusters) meets in `pieces`, in any round but the first:

    pieces        the state that a round goes on from -> how many; 0: the round is a plain one
    map           gives every row of its partial the number of its `piece`; `merge` sees those of one piece
    finish_piece  the partial of one piece (None where no bucket has a row) -> Piece, in a task of its own
    finish        is given what all pieces `told`, in order
    """

    def pieces(self, state: pa.Table) -> int:
        return 0

    def finish_piece(self, partial: pa.Table | None, piece: int, state: pa.Table, ctx: Context) -> Piece:
        raise NotImplementedError

    def map(self, pairs: pa.Table, state: pa.Table | None, ctx: Context) -> pa.Table:
        raise NotImplementedError

    def merge(self, partials: list[pa.Table]) -> pa.Table:
        raise NotImplementedError

    def finish(self, partial: pa.Table, state: pa.Table | None, ctx: Context) -> pa.Table | Again:
        return partial

    def judge(self, pairs: pa.Table, state: pa.Table, ctx: Context) -> Verdicts:
        raise NotImplementedError

    def counted(self, state: pa.Table) -> Counted | None:
        """What the state says of labels, where it counts them: for the report and entry_counts.json."""
        return None


class Told(NamedTuple):
    """What a Group has told one bucket so far. `step`: the one at work; the last one when judging."""

    step: str = ""
    tables: Mapping[str, Sequence[pa.Table]] = MappingProxyType({})

    def of(self, step: str, schema: pa.Schema) -> pa.Table:
        """The rows that all rounds of `step` have told, with the columns of `schema`."""
        found = [table.select(schema.names).cast(schema) for table in self.tables.get(step, ()) if table.num_rows]
        return pa.concat_tables([schema.empty_table(), *found]).combine_chunks()

    def rounds(self, step: str, schema: pa.Schema) -> list[pa.Table]:
        """The same, round by round."""
        return [Told(step, {step: [table]}).of(step, schema) for table in self.tables.get(step, ())]


class Group(Stage):
    """Decides on pairs that must know of each other, in one or several `steps`. In each:

    survey   one bucket, and what it has been told so far -> notes: a table with a uint64 column `group`, and what the
             group needs to know. Zero, one or several for a pair
    combine  notes of whole or partial groups -> fewer that settle the same: for groups that much of a crawl falls in
    settle   all notes of some whole groups (sorted by group, then by uid if there is one, then by the other plain
             columns) -> results, a row each. With a column `uid` a row goes to where that pair is, else it has a
             column `group` and goes to every bucket that had a note in the group

    A step of `repeated` goes round until no bucket has notes, and only those are asked again that the last round has
    told something. Then `judge`: one bucket + what it was told -> Verdicts.
    """

    repeated: ClassVar[frozenset[str]] = frozenset()

    def notes_per_pair(self, step: str, ctx: Context) -> int:
        """About how many notes a pair has in a step: its groups are spread over so many more slots."""
        return 1

    @property
    def steps(self) -> tuple[str, ...]:
        return ("compare",)

    def survey(self, pairs: pa.Table, told: Told, ctx: Context) -> pa.Table:
        raise NotImplementedError

    def combine(self, notes: pa.Table, step: str) -> pa.Table:
        return notes

    def settle(self, notes: pa.Table, step: str, ctx: Context) -> pa.Table:
        raise NotImplementedError

    def judge(self, pairs: pa.Table, told: Told, ctx: Context) -> Verdicts:
        raise NotImplementedError


IMAGE = "image"
"""What a Measure reads when it wants the bytes."""
GROUP = "group"
PIECE = "piece"
"""The column of a partial that says which piece a row is of."""
NO_NOTES = pa.schema([pa.field(GROUP, pa.uint64())])
"""An empty table of this is what `survey` returns when it has nothing to ask."""
