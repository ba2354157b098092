"""What stages show: counted exactly, chosen by a total order, the same in any cut."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.books import evidence
from curation.books.examples import CHARACTERS, examples, order_of
from curation.stage import Picks, Rule, Scores, Verdicts
from curation.stages.threshold import Threshold
from curation.table import captions
from tests.curation.books.test_summary import pairs_of


def scored(values: list[float | None], texts: list[str] | None = None) -> pa.Table:
    pairs = pairs_of(*([text] for text in texts or [f"caption {n}" for n in range(len(values))]))
    return pairs.append_column("score", pa.array(values, pa.float64()))


def shown(stage, pairs: pa.Table) -> dict:
    return evidence.of_stage(stage, 0, pairs, stage.judge(pairs, None), None)


NUMBERS = st.one_of(st.none(), st.floats(-2, 2), st.floats(allow_nan=True, allow_infinity=True))


@given(st.lists(NUMBERS, min_size=1, max_size=40), st.floats(-1, 1), st.integers(0, 40), st.randoms())
def test_any_cut_into_buckets_adds_up_to_the_whole(values, cut, at, rng):
    pairs = scored(values)
    stage = Threshold(column="score", min=cut)
    parts = [pairs.slice(0, at), pairs.slice(at)]
    rng.shuffle(parts)
    whole = evidence.merged([{"t": shown(stage, part)} for part in parts])
    assert whole == evidence.merged([{"t": shown(stage, pairs)}])
    nested = evidence.merged([evidence.merged([{"t": shown(stage, part)}]) for part in parts])
    assert json.dumps(nested, sort_keys=True) == json.dumps(whole, sort_keys=True)
    scores = whole["t"]["scores"]["score"]
    finite = [v for v in values if v is not None and np.isfinite(v)]
    assert (sum(n for n, _ in scores["bins"].values()), scores["none"]) == (len(finite), len(values) - len(finite))
    assert sum(kept for _, kept in scores["bins"].values()) == sum(v >= cut for v in finite)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_every_number_lies_between_the_bounds_of_its_bin(values):
    told = evidence._binned(Scores("x", np.array(values), np.ones(len(values), bool)))
    bounds = sorted((evidence.lower_bound(int(n)), evidence.lower_bound(int(n) + 1)) for n in told["bins"])
    for value in values:
        value = 0.0 if abs(value) < 2.0**-40 else value
        assert any(low <= value < high for low, high in bounds)
        low, high = next((low, high) for low, high in bounds if low <= value < high)
        assert high - low <= abs(value) / 64 or abs(value) < 2.0**-39


def test_those_nearest_to_the_cut_are_shown_on_both_sides():
    values = np.random.default_rng(0).uniform(0, 1, 500).round(2).tolist()
    found = shown(Threshold(column="score", min=0.4, max=0.8), scored(values))["picks"]
    assert [group["place"] for group in found.values()] == [0, 1, 2, 3]
    for title, cut in (("score just below 0.4", 0.4), ("score at or above 0.8", 0.8)):
        mine = [value for value in values if (value < cut) == ("below" in title)]
        nearest = sorted(abs(value - cut) for value in mine)[: evidence.PICKS]
        assert [row["rank"] for row in found[title]["rows"]] == nearest
    [below] = {(row["kept"], row["reason"]) for row in found["score just below 0.4"]["rows"]}
    assert below == (False, "below")
    assert found["score at or above 0.4"]["rows"][0]["detail"].startswith("score 0.4")


def test_a_threshold_on_captions_shows_the_caption_in_question():
    pairs = captions.with_fields(pairs_of(["low", "high"], ["middle"]), pa.table({"score": [0.1, 0.9, 0.5]}))
    found = shown(Threshold(column="captions.score", min=0.5), pairs)
    assert [(row["caption"], row["kept"]) for row in found["picks"]["captions.score just below 0.5"]["rows"]] == [
        ("low", False)
    ]
    above = found["picks"]["captions.score at or above 0.5"]["rows"]
    assert [(row["caption"], row["kept"]) for row in above] == [("middle", True), ("high", True)]
    assert found["scores"]["captions.score"]["of"] == "captions"


class Rewrites(Rule):
    kind: str = "rewrites"

    def judge(self, pairs, ctx):
        flat = captions.explode(pairs)
        texts = [text.removesuffix("!") for text in flat.column("text").to_pylist()]
        left = captions.replace(pairs, captions.implode(flat.set_column(1, "text", pa.array(texts)), pairs.num_rows))
        reason = pa.array(["gone" if row == 2 else None for row in range(pairs.num_rows)])
        return Verdicts(reason=reason, captions=left.column("captions"))


def test_captions_before_and_after_are_those_of_pairs_that_stayed_and_changed():
    found = shown(Rewrites(), pairs_of(["a"], ["b", "c!"], ["d!"], []))["changed"]
    assert [row["uid"] for row in found] == [f"{1:032x}"]
    told = [[each["text"] for each in found[0][when]] for when in ("before", "after")]
    assert told == [["b", "c!"], ["b", "c"]]


def test_texts_are_cut_and_counted_not_carried_whole():
    pairs = pairs_of(["x" * 1_000_000 + "!", *(f"{n}!" for n in range(9))])
    [row] = shown(Rewrites(), pairs)["changed"]
    assert len(row["before"][0]["text"]) == CHARACTERS and row["before"][-1] == {"more": 10 - evidence.CAPTIONS}
    assert len(json.dumps(row)) < 5000
    rows = examples(0, pairs.append_column("caption", captions.first(pairs)), 3)
    assert len(rows[0]["caption"]) == CHARACTERS


def test_a_ledger_carries_it_and_one_without_has_none():
    table = pa.table({"uid": ["a"]})
    assert evidence.taken(table) == {}
    told = {"threshold": shown(Threshold(column="score", min=0.5), scored([0.1, 0.7]))}
    assert evidence.taken(evidence.put(table, told)) == json.loads(json.dumps(told))


def test_who_opted_out_later_keeps_the_row_and_loses_the_picture():
    pairs = scored([0.1, 0.7])
    at = pairs.schema.get_field_index("image_part")
    pairs = pairs.set_column(at, "image_part", pa.array(["p", "p"]))
    told = {"threshold": shown(Threshold(column="score", min=0.5), pairs)}
    rows = evidence.rows_with_images(evidence.hidden(told, {f"{0:032x}"})["threshold"])
    assert {row["uid"]: bool(row["image_part"]) for row in rows} == {f"{0:032x}": False, f"{1:032x}": True}


def test_uids_that_somebody_counted_up_are_shown_in_no_order():
    """An order that keeps theirs would show the first rows of somebody's table."""
    order = order_of([f"{n:032x}" for n in range(1000)], 0)
    first = np.argsort(order)[:20]
    assert first.max() > 500 and first.min() < 500 and len(set(order.tolist())) == 1000


def test_words_are_counted_with_those_that_have_none():
    pairs = captions.with_fields(pairs_of(["a", "b"], ["c"]), pa.table({"detected": ["en", None, "en"]}))
    assert evidence.words_of(pairs, "captions.detected") == {"en": 2, "": 1}
    assert evidence.words_of(pairs, "captions.nothing") == {}


@pytest.mark.parametrize("order", [None, np.array([np.inf, 0.0])])
def test_a_heading_without_an_order_or_with_an_endless_one_is_json(order):
    class Shows(Threshold):
        def shown(self, pairs, verdicts, state):
            return [Picks("some", np.arange(2), order)]

    found = shown(Shows(column="score", min=0), scored([1.0, 2.0]))
    assert len(json.loads(json.dumps(found, allow_nan=False))["picks"]["some"]["rows"]) == 2
