"""The JSON the report reads, as typed models: what curation, training and evaluation leave in their output folders.

Unknown keys are ignored (an older report can show a newer run); a known key of the wrong type is an error naming it.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.contract import manifest


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Example(_Shape):
    """One pair to look at. `thumb` is an untrusted string: only `thumbs.Album` may turn it into an image."""

    uid: str = ""
    url: str | None = None
    caption: str | None = None
    thumb: str | None = None
    detail: str | None = None


class DuplicateGroup(_Shape):
    reason: str
    survivor: Example
    removed: list[Example] = []
    count: int = 0  # of all that were removed


# The manifest's own rows: summary.json repeats them. The contract forbids keys it does not know, here they are ignored.
class StageCounts(manifest.StageCounts, _Shape):
    pass


class InputPart(manifest.InputPart, _Shape):
    pass


class EntryCount(_Shape):
    entry: str
    before: int
    after: int


class RankCurve(_Shape):
    rank: list[int] = []
    before: list[float] = []
    after: list[float] = []


class ConceptHistogram(_Shape):
    """Concepts by their number of texts; `gone`: those that no kept text mentions."""

    edges: list[float] = []
    before: list[int] = []
    after: list[int] = []
    gone: int = 0


class Concepts(_Shape):
    mode: str = ""
    num_entries: int = 0
    num_matched_entries: int = 0
    t: float | None = None
    head: list[EntryCount] = []
    curve: RankCurve = RankCurve()
    histogram: ConceptHistogram | None = None
    tail_share_before: float | None = None
    tail_share_after: float | None = None


class CaptionCount(_Shape):
    text: str
    pairs: int


class Histogram(_Shape):
    """`len(edges) == len(before) + 1 == len(after) + 1`; `cut` is the threshold a stage applied, if any."""

    edges: list[float] = []
    before: list[float] = []
    after: list[float] = []
    cut: float | list[float] | None = None


class Section(_Shape):
    """What a stage says of itself; `rows` have a value for each of `columns`."""

    stage: str = ""
    title: str
    text: str = ""
    columns: list[str] = []
    rows: list[list[str | int | float]] = []


class ScoreBins(_Shape):
    """Numbers that a stage decided by, in bins [low, high) that hold something, one after the other."""

    column: str
    of: str = "pairs"
    cuts: list[float] = []
    none: int = 0  # without a number
    low: list[float] = []
    high: list[float] = []
    before: list[int] = []
    after: list[int] = []

    @model_validator(mode="after")
    def _fits(self) -> "ScoreBins":
        if not len(self.low) == len(self.high) == len(self.before) == len(self.after):
            raise ValueError("low, high, before and after are not of one length")
        return self


class Judged(Example):
    """`beside`: what it was held against, where that is no pair."""

    kept: bool = True
    reason: str = ""
    beside: Example | None = None


class ShownGroup(_Shape):
    title: str
    examples: list[Judged] = []


class ToldCaption(_Shape):
    """A caption with its provenance; or `more`, how many are not told."""

    text: str = ""
    source: str = ""
    model: str = ""
    prompt_version: str = ""
    score: float | None = None
    more: int = 0


class Changed(Example):
    """A pair whose captions a stage changed."""

    before: list[ToldCaption] = []
    after: list[ToldCaption] = []


class Answer(_Shape):
    """of: the caption that was asked about, where that is one of several."""

    of: str = ""
    text: str = ""


class Answered(Example):
    """A pair that a model was asked about; asked: what the prompt was told of it; more: answers that are not told."""

    asked: str = ""
    answers: list[Answer] = []
    more: int = 0


class AnswerGroup(_Shape):
    """Answers of one fate: why they are not used, or ""."""

    reason: str = ""
    examples: list[Answered] = []


class Words(_Shape):
    """word, how often a stage saw it, how often the kept pairs have it."""

    column: str
    rows: list[tuple[str, int, int]] = []


class Evidence(_Shape):
    """What one stage shows of itself."""

    stage: str
    kind: str = ""
    scores: list[ScoreBins] = []
    groups: list[ShownGroup] = []
    changed: list[Changed] = []
    words: list[Words] = []
    answers: list[AnswerGroup] = []
    by: dict[str, str] = {}


class Source(_Shape):
    kind: str
    parts: int = 0
    bytes: int = 0
    counts: dict[str, int] = {}


class Download(_Shape):
    """`counts`: urls, images_stored, redirects, failed:<reason>; `hosts`: the same by class of host; not_asked: the
    reasons for which nobody was asked."""

    bytes: int = 0
    passing: int = 0
    counts: dict[str, int] = {}
    hosts: dict[str, dict[str, int]] = {}
    not_asked: list[str] = []


class PromptMessage(_Shape):
    """images: how many go with it."""

    role: str = ""
    text: str = ""
    images: int = 0


class Prompt(_Shape):
    """A request as it would be sent. `thumb` is an untrusted string, as in Example."""

    messages: list[PromptMessage] = []
    thumb: str | None = None


class Spent(_Shape):
    """Attempts: answered; failed, by reason, for nothing; unknown, by reason, which may have been billed for the tokens
    beside them. answers: of the server, whatever became of them; tokens as it counted them, or for `estimated` of the
    answers as they are estimated. of_budget: shares of what the recipe allows. money: None without prices."""

    attempts: int = 0
    sent_again: int = 0
    answers: int = 0
    answered: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    estimated: int = 0
    estimated_in: int = 0
    estimated_out: int = 0
    failed: dict[str, int] = {}
    unknown: dict[str, int] = {}
    unknown_in: int = 0
    unknown_out: int = 0
    money: float | None = None
    of_budget: dict[str, float] = {}


class AskedStage(_Shape):
    """What a stage would ask: requests for `inputs` that lack answers, beside those requests that are `known`; `about`:
    as many as go in, if those before neither drop nor add any. tokens_out: at most, None where nothing bounds an
    answer. money: None without prices. spent: with this prompt and model in this pool, by then."""

    stage: str
    digest: str = ""
    model: str = ""
    requests: int = 0
    inputs: int = 0
    known: int = 0
    about: bool = False
    tokens_in: int = 0
    tokens_out: int | None = None
    money: float | None = None
    spent: Spent = Spent()
    prompts: list[Prompt] = []


class Used(_Shape):
    """The distinct answers about what the dataset was made of, with their tokens, whoever asked for them."""

    answers: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


class SpentStage(_Shape):
    """What the answers of a stage have cost. known: of the inputs, those answered before this dataset was begun. run:
    since then, however often it was started; pool: in all. A model that is no server has neither."""

    stage: str
    model: str = ""
    is_server: bool = False
    inputs: int = 0
    known: int = 0
    used: Used = Used()
    run: Spent = Spent()
    pool: Spent = Spent()


class DryRun(_Shape):
    """`dry_run.json`."""

    stages: list[AskedStage] = []


class Summary(_Shape):
    """`summary.json` of a curated dataset."""

    name: str = ""
    recipe_digest: str = ""
    manifest_digest: str = ""
    inputs: list[InputPart] = []
    occurrences: int = 0
    images_stored: int = 0
    pairs_in: int
    pairs_kept: int
    stages: list[StageCounts] = []
    kept_examples: list[Example] = []
    drop_examples: dict[str, list[Example]] = {}
    duplicate_groups: list[DuplicateGroup] = []
    sections: list[Section] = []
    evidence: list[Evidence] = []
    sources: list[Source] = []
    download: Download | None = None
    asked: list[SpentStage] = []
    concepts: Concepts | None = None
    languages: dict[str, int] = {}
    caption_sources: dict[str, int] = {}
    top_captions_before: list[CaptionCount] = []
    top_captions_after: list[CaptionCount] = []
    histograms: dict[str, Histogram] = {}


class ShardCounts(_Shape):
    name: str
    pairs: int
    bytes: int = 0


class ManifestCounts(_Shape):
    """The few fields of `manifest.json` that the report shows and reconciles; the contract owns the rest."""

    format_version: str | int = ""
    shards: list[ShardCounts] = []
    num_pairs: int
    recipe_digest: str = ""


class EvalSet(_Shape):
    name: str
    kind: str = ""
    images: int | None = None
    texts: int | None = None
    classes: int | None = None
    chance: float | dict[str, float] | None = None


class EvalResults(_Shape):
    """`eval.json`: `results` and `before` (the untrained model) map `<set>/<metric>` to a number."""

    checkpoint: str | None = None
    step: int | None = None
    before: dict[str, float] | None = None
    results: dict[str, float] = {}
    sets: list[EvalSet] = []


class EvalPoint(_Shape):
    """One line of `evals.jsonl`."""

    step: int
    eval: dict[str, Any] = Field(default_factory=dict)
