"""No result of a stage depends on which pairs share a bucket, a slot or a batch, nor on any order: every stage of the
table stands in EXAMPLES, and a stage that minds its neighbours is found."""

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from curation.methods.reasons import mark, no_reasons
from curation.stage import GROUP, Context, Group, Measure, Reduce, Rule, Stage, Verdicts
from curation.stages import STAGES
from curation.table import captions
from tests.helpers import cuts, tiny_clip, tiny_head, tiny_lists, tiny_set
from tests.helpers.lanes import sampled
from tests.helpers.rich_pairs import rich

EXAMPLES: dict[str, list] = {
    "opt_out": [{}],
    "block_list": [
        lambda: tiny_lists.stage("url", "sha256", "phash"),
        lambda: tiny_lists.stage("domain", pages="caption"),
        lambda: tiny_lists.stage("domain", "phash"),
    ],
    "image_decode": [{}],
    "decontaminate": [
        lambda: {"sets": [{"name": "a", "path": tiny_set.kept(0)}, {"name": "b", "path": tiny_set.kept(1)}]},
        lambda: {"sets": [{"name": "a", "path": tiny_set.kept(0)}], "ngram": 2, "min_words": 1, "max_difference": None},
        lambda: {
            "sets": [{"name": "a", "path": tiny_set.kept(0), "vectors": tiny_set.vectors(8, 3)}],
            "min_cosine": 0.3,
        },
    ],
    "image_size": [{"min_side": 51}],
    "caption_clean": [{}],
    "site_boilerplate": [{"min_pairs": 4, "prior_pairs": 1}],
    "caption_rules": [{}],
    "caption_frequency": [{"max_pairs": 3}, {"max_pairs": 3, "excess": "drop_all"}],
    "caption_minhash": [{"threshold": 0.2, "shingle": 2}, {"max_pairs": 2, "survivor": []}],
    "exact_duplicates": [{}, {"by": ["bytes"]}],
    "perceptual_duplicates": [{}, {"grouping": "components", "most_compared": 2}],
    "concept_match": [{}],
    "balance": [{"t": 3}, {"target_pairs": 20}, {"t": 3, "unit": "one_text"}, {"t": 3, "per_language": {}}],
    "clip_image_vector": [tiny_clip.kept],
    "clip_text_vector": [tiny_clip.kept],
    "clip_score": [{}],
    "head": [
        lambda: {"name": "x", "weights": tiny_head.kept(8), "activation": "gelu", "output": "softmax", "index": 1},
        lambda: {"name": "x", "weights": tiny_head.kept(8), "column": "captions.text_vector"},
    ],
    "threshold": [{"column": "captions.score", "min": 0.4}, {"column": "contrast", "max": 40}],
    "top_fraction": [
        {"column": "captions.score", "fraction": 0.4},
        {"column": "captions.score", "keep": 30, "per": "caption"},
        {"column": "width", "keep": 20},
        {"column": "captions.score", "fraction": 0.4, "ties": "all"},
    ],
    "one_of": [{"column": "captions.detected", "values": ["en", "de"]}, {"column": "height", "values": ["50"]}],
    "word_list": [{}],
    "reference_clusters": [lambda: {"path": tiny_set.vectors(8)}],
    "kmeans": [
        {"k": 5, "rounds": 6},
        {"k": 5, "column": "captions.text_vector", "near": 3},
        {"levels": [3, 4], "near": 3, "per_centre": 3},
    ],
    "semantic_duplicates": [
        {"eps": 0.5},
        {"eps": 0.5, "mode": "reference", "probe": 2, "merge_captions": True, "merge_eps": 0.4},
        {"eps": 0.4, "mode": "components", "drop_over": 4, "survivor": ["longest_caption"]},
        {"eps": 0.6, "column": "captions.text_vector", "probe": 3},
    ],
    "cluster_quota": [{"keep": 20}, {"fraction": 0.3, "neighbours": 2, "order": "near_to_centre"}],
    "quota": [
        {"by": "cluster", "shares": {"0": 1, "1": 2.5}, "total": 9, "others": "keep"},
        {"by": "captions.detected", "counts": {"en": 4, "*": 3}},
        {"by": "host", "shares": {"x.test": 1}},
    ],
    "sample": [{"fraction": 0.3}, {"keep": 7}],
    "language": [{}],
    "text_statistics": [{}],
    "function": [
        {"function": "tests.helpers.measurer:words", "inputs": ["captions.text"], "columns": {"n": "int32"}},
        {"function": "tests.helpers.measurer:sizes", "columns": {"n": "int64", "even": "bool"}},
        {"function": "tests.helpers.measurer:wide", "inputs": ["width", "captions.text"], "columns": {"x": "string"}},
    ],
    "generate": [{"backend": {"kind": "function", "function": "tests.helpers.captioner:describe"}, "name": "x"}],
}
CASES = [(kind, at) for kind, some in EXAMPLES.items() for at in range(len(some))]


def test_every_stage_of_the_table_is_here():
    assert set(EXAMPLES) == set(STAGES), "a new stage: add its example settings to EXAMPLES"


@pytest.mark.parametrize(("kind", "at"), CASES)
@pytest.mark.parametrize("seed", sampled([0, 1], 0))
def test_no_cut_and_no_order_changes_anything(kind, at, seed):
    settings = EXAMPLES[kind][at]
    hold(STAGES[kind](**(settings() if callable(settings) else settings)), seed)


def hold(stage: Stage, seed: int) -> None:
    """AssertionError when the stage minds how pairs are cut."""
    rng = np.random.default_rng(seed)
    {Measure: _hold_measure, Rule: _hold_rule, Reduce: _hold_reduce, Group: _hold_group}[_sort(stage)](stage, rng)


def _sort(stage: Stage) -> type[Stage]:
    return next(sort for sort in (Measure, Rule, Reduce, Group) if isinstance(stage, sort))


def _hold_measure(stage: Measure, rng: np.random.Generator) -> None:
    pairs, bodies = rich()
    rows, keys = cuts.measure(stage, pairs, bodies)
    wanted = dict(zip(keys.to_pylist(), rows.drop_columns(["key"]).to_pylist(), strict=True))
    for batch, shift in ((1, 0), (5, 3), (7, 0)):
        order = rng.permutation(pairs.num_rows)
        rows, keys = cuts.measure(stage, pairs.take(pa.array(order)), [bodies[i] for i in order], batch, shift)
        for key, row in zip(keys.to_pylist(), rows.drop_columns(["key"]).to_pylist(), strict=True):
            assert row == wanted[key], f"another result beside other inputs: {stage.kind}"


def _hold_rule(stage: Rule, rng: np.random.Generator) -> None:
    pairs, _ = rich()
    ctx = Context(0, pairs.num_rows)
    judge = stage.open(ctx)
    cut = _cut(pairs, pairs.num_rows, rng)
    _same(pairs, judge(pairs), cut, [judge(each) for each in cut])


def _hold_reduce(stage: Reduce, rng: np.random.Generator) -> None:
    pairs, _ = rich()
    ctx = Context(0, pairs.num_rows)
    state, told = cuts.reduced_in(stage, [pairs], ctx)
    whole = stage.judge(pairs, state, told)
    cut = _cut(pairs, 5, rng)
    state, told = cuts.reduced_in(stage, cut, ctx, lambda stage, partials: _merged(stage, partials, rng))
    _same(pairs, whole, cut, [stage.judge(each, state, told) for each in cut])


def _merged(stage: Reduce, partials: list[pa.Table], rng: np.random.Generator) -> pa.Table:
    """All of them, the same in whatever order and tree."""
    merge = stage.merge
    a, b, *rest = partials
    rest = merge(rest)
    made = [
        merge([merge([a, b]), rest]), merge([a, merge([b, rest])]), merge(partials),
        merge([partials[i] for i in rng.permutation(len(partials))]), merge([merge(partials)]),
    ]  # fmt: skip
    for each in made[1:]:
        assert each.to_pylist() == made[0].to_pylist(), f"the order of merging shows: {stage.kind}"
    return made[-2]


def _hold_group(stage: Group, rng: np.random.Generator) -> None:
    pairs, _ = rich()
    ctx = Context(0, pairs.num_rows)
    (told,) = cuts.grouped(stage, [pairs], ctx, 1)
    whole = stage.judge(pairs, told, ctx)
    for parts, slots, combines in ((5, 3, True), (2, 1, True), (1, 1, False), (5, 4, False)):
        cut = _cut(pairs, parts, rng)
        told = cuts.grouped(stage, cut, ctx, slots, combines)
        _same(pairs, whole, cut, [stage.judge(a, b, ctx) for a, b in zip(cut, told, strict=True)])


def _cut(pairs: pa.Table, parts: int, rng: np.random.Generator) -> list[pa.Table]:
    """Any pairs together, in order of uid as ever; one part may be empty."""
    of = rng.integers(0, parts, pairs.num_rows)
    return [pairs.filter(pa.array(of == part)) for part in range(parts)]


def _same(pairs: pa.Table, whole: Verdicts, cut: list[pa.Table], judged: list[Verdicts]) -> None:
    both = cuts.joined(cut, judged)
    uids = pc.index_in(pairs.column("uid"), pa.concat_tables(cut).column("uid").combine_chunks())
    for name in ("reason", "detail", "captions", "columns"):
        mine, theirs = getattr(whole, name), getattr(both, name)
        assert (mine is None) == (theirs is None), f"{name} is there or not, as the cut has it"
        if mine is not None:
            assert mine.to_pylist() == theirs.take(uids).to_pylist(), f"{name} depends on the cut"
    assert whole.caption_drops == both.caption_drops


class _Place(Measure):
    kind: Literal["place"] = "place"
    unit: ClassVar = "text"
    reads: ClassVar = ("captions.text",)
    adds: ClassVar = (pa.field("place", pa.int64()),)

    def open(self, ctx):
        return lambda texts: pa.table({"place": np.arange(texts.num_rows)})


class _Odd(Rule):
    kind: Literal["odd"] = "odd"

    def judge(self, pairs, ctx):
        return Verdicts(reason=mark([("odd", np.arange(pairs.num_rows) % 2 == 1)], pairs.num_rows))


class _First(Reduce):
    """Merges to what came first; or, `floats`, sums floats as they come."""

    kind: Literal["first"] = "first"
    floats: bool = False

    def map(self, pairs, state, ctx):
        values = captions.explode(pairs).column("score").fill_null(0.1).to_numpy() * 0.1
        return pa.table({"x": [float(np.sum(values)) * 1.1 if self.floats else float(pairs.num_rows)]})

    def merge(self, partials):
        xs = [each["x"][0].as_py() for each in partials]
        return pa.table({"x": [sum(xs) if self.floats else xs[0]]})

    def judge(self, pairs, state, ctx):
        return Verdicts(reason=no_reasons(pairs.num_rows))


class _Crowd(Group):
    """Tells each pair how many notes met in its slot; or, `lossy`, combines to what settles otherwise."""

    kind: Literal["crowd"] = "crowd"
    lossy: bool = False

    def survey(self, pairs, told, ctx):
        group = (
            np.arange(pairs.num_rows).astype(np.uint64) % np.uint64(4)
            if not self.lossy
            else pairs["height"].cast("uint64")
        )
        return pa.table({GROUP: group, "uid": pairs.column("uid")})

    def combine(self, notes, step):
        return notes.slice(0, 1) if self.lossy else notes

    def settle(self, notes, step, ctx):
        return notes.append_column("n", pa.array([notes.num_rows] * notes.num_rows))

    def judge(self, pairs, told, ctx):
        schema = pa.schema([("uid", pa.string()), ("n", pa.int64())])
        rows = told.of("compare", schema)
        n = rows.column("n").take(pc.index_in(pairs.column("uid"), rows.column("uid").combine_chunks()))
        return Verdicts(reason=no_reasons(pairs.num_rows), detail=n.cast(pa.string()).combine_chunks())


@pytest.mark.parametrize("stage", [_Place(), _Odd(), _First(), _First(floats=True), _Crowd(), _Crowd(lossy=True)])
def test_a_stage_that_minds_the_cut_is_found(stage):
    with pytest.raises(AssertionError):
        for seed in range(3):
            hold(stage, seed)
