"""Hard negatives go along with the caption they contradict, and never in its place."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.contract.manifest import Manifest
from pipeline.contract.shards import write_shard
from tests.helpers.datasets import make_pair
from training.reader.batch import concatenated
from training.reader.captions import CAPTION_POLICIES
from training.reader.captions.weighted import Weighted
from training.reader.images import ImageSettings
from training.reader.negatives import draw_negatives
from training.reader.pairs import open_pairs
from training.reader.reader import Reader
from training.reader.settings import ReaderSettings
from training.wanted import Wanted

texts = st.sampled_from(["one cat", "two cats", "three cats", "a dog", "red"])
negatives = st.lists(
    st.fixed_dictionaries({"text": texts, "source": st.just("negative:x")}, optional={"of": texts | st.just("")})
)


@given(negatives, st.lists(texts, min_size=1, max_size=3), st.integers(0, 4))
def test_only_what_contradicts_the_caption_in_use_and_is_true_of_no_caption(negatives, captions, most):
    meta = {"captions": [{"text": each, "source": "alt"} for each in captions], "negatives": negatives}
    found = draw_negatives(meta, captions[0], most, 1, 0, "u")
    fit = {n["text"] for n in negatives if n.get("of", "") in ("", captions[0])} - set(captions)
    assert len(found) == len(set(found)) == min(most, len(fit)) and set(found) <= fit
    assert draw_negatives(meta, captions[0], most + 1, 1, 0, "u")[:most] == found
    assert draw_negatives({**meta, "negatives": negatives[::-1]}, captions[0], most, 1, 0, "u") == found


def test_negatives_of_a_tar_that_nobody_vouches_for_may_be_anything():
    for odd in (3, "text", [3], [{"text": 1}], {"text": "x"}):
        assert draw_negatives({"captions": [{"text": "a", "source": "txt"}], "negatives": odd}, "a", 2, 0, 0, "u") == []


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pair n has the captions of make_pair, one more by a model, and n % 3 negatives of its alt, one of its picture."""
    folder = str(tmp_path_factory.mktemp("data"))

    def pair(n):
        plain = make_pair(n).meta["captions"]
        wrong = [{"text": f"not {n} {k}", "source": "negative:x", "of": plain[0]["text"]} for k in range(n % 3)]
        wrong += [{"text": f"nowhere {n}", "source": "negative:y"}] * (n % 2)
        captions = [*plain, {"text": f"written {n}", "source": "caption:m"}]
        return make_pair(n, captions=captions, **({"negatives": wrong} if wrong else {}))

    entries = [write_shard(folder, shard, map(pair, range(8 * shard, 8 * shard + 8))) for shard in range(4)]
    Manifest(name="small", num_pairs=32, shards=entries).save(folder)
    return [folder]


def tokenize(some):
    return torch.tensor([[len(text), *text.encode()[-4:]] for text in some])


def reader(data, policy, *, rank=0, world=1, negatives=0, piece=512, workers=0):
    chosen = ReaderSettings(workers=workers, lanes=8, window=4, threads=1, piece=piece)
    return Reader(
        open_pairs(data), chosen, seed=5, global_batch=16, image=ImageSettings(), image_size=8, captions=policy,
        tokenize=tokenize, rank=rank, world=world, steps=8, wanted=Wanted(negatives=negatives),
    )  # fmt: skip


def all_batches(found, start=0, stop=8):
    return [batch for _, batch in found.batches(start, stop)]


def told(batch):
    rows = (
        []
        if "negatives/tokens" not in batch.rows
        else list(zip(batch.rows["negatives/owner"].tolist(), batch.rows["negatives/tokens"].tolist(), strict=True))
    )
    return [
        (uid, text, [t for row, t in rows if row == at])
        for at, (uid, text) in enumerate(zip(batch.uids, batch.captions, strict=True))
    ]


@pytest.mark.parametrize("kind", CAPTION_POLICIES)
def test_no_policy_draws_a_negative(data, kind):
    policy = CAPTION_POLICIES[kind](**({"weights": {"negative": 9, "negative:x": 9}} if kind == "weighted" else {}))
    texts = {text for batch in all_batches(reader(data, policy)) for text in batch.captions}
    assert texts and not [text for text in texts if text.startswith(("not", "nowhere"))]


def test_a_batch_carries_what_contradicts_its_captions_and_nothing_where_nobody_asks(data):
    policy = CAPTION_POLICIES["uniform"]()
    assert all(batch.rows.get("negatives/tokens") is None for batch in all_batches(reader(data, policy)))
    for batch in all_batches(reader(data, policy, negatives=3)):
        for _, text, rows in told(batch):
            number = int(text.split()[1])
            expected = [f"not {number} {k}" for k in range(number % 3)] if text.startswith("caption") else []
            expected += [f"nowhere {number}"] * (number % 2)
            assert sorted(rows) == sorted(tokenize(expected).tolist() if expected else [])


def test_schedules_and_negatives_are_those_of_the_step_whatever_ranks_pieces_workers_and_restarts(data):
    policy = Weighted(
        weights={"original": [(0.0, 1.0), (1.0, 0.0)], "synthetic": [(0.0, 0.0), (1.0, 1.0)]}, per="source"
    )
    whole = [told(batch) for batch in all_batches(reader(data, policy, negatives=2))]
    written = [sum(text.startswith("written") for _, text, _ in step) / len(step) for step in whole]
    assert written[0] == 0 and sum(written[:4]) < sum(written[4:]) and written[-1] > 0.5
    resumed = [told(b) for at in range(8) for b in all_batches(reader(data, policy, negatives=2), at, at + 1)]
    assert resumed == whole
    ranks = [all_batches(reader(data, policy, rank=rank, world=2, negatives=2, piece=32, workers=1)) for rank in (0, 1)]
    assert [told(one) + told(two) for one, two in zip(*ranks, strict=True)] == whole
    assert [told(concatenated(list(both))) for both in zip(*ranks, strict=True)] == whole
