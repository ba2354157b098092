"""Columns of a frozen model are its features of the whole batch, whatever chunk, size of pictures or tokenizer."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from open_clip.loss import DistillClipLoss

from pipeline.errors import RecipeError
from tests.helpers.tiny_towers import SIDE, WORDS, TinyTowers, cut, tiny_batch
from training.companions.running.companion import Companions
from training.companions.running.frozen import Frozen, same_tokens
from training.engine.build import build_engine
from training.engine.optimizers.adamw import AdamW
from training.engine.settings import EngineSettings
from training.ranks.peers import Peers
from training.step.grad_cache import cached_step
from training.step.objective import build_objective
from training.terms.softmax import Softmax

WANTED = frozenset({"old.image", "old.text", "positives/old.text", "views/old.image"})


def _frozen(towers=None, retold=None, size=SIDE):
    engine = build_engine(TinyTowers(), EngineSettings(zero_stage=0), AdamW(), Peers.alone())
    towers = towers or TinyTowers(seed=5, dropout=0.5)
    towers.image_size = size
    return Frozen("old", towers, engine, retold), engine


@pytest.mark.parametrize("chunk", [1, 3, 64])
@pytest.mark.parametrize("counts", [[7], [0, 7]])
def test_columns_are_the_features_of_the_whole_batch(chunk, counts):
    whole = tiny_batch(7, groups={"positives": 2, "views": 2})
    want = TinyTowers(seed=5).eval()(whole.rows, frozenset({"image", "text", "positives/text", "views/image"}))
    parts = [_frozen()[0].enrich(cut(whole, counts, rank), WANTED, chunk) for rank in range(len(counts))]
    for name in WANTED:
        got = torch.cat([part[name] for part in parts])
        assert not got.requires_grad and torch.allclose(got, want[name.replace("old.", "")], atol=1e-6), name


def test_only_what_is_wanted_of_it_is_given():
    companion, _ = _frozen()
    assert companion.enrich(tiny_batch(3), frozenset({"other.image"}), 2) == {}
    assert set(companion.enrich(tiny_batch(3), frozenset({"old.text", "other.image"}), 2)) == {"old.text"}


def test_pictures_of_another_size_are_resized_before_it_sees_them():
    class Seen(TinyTowers):
        def forward(self, rows, want=None):
            seen.append(rows["image"])
            return super().forward({**rows, "image": torch.zeros(len(rows["image"]), 3, SIDE, SIDE)}, want)

    seen: list[torch.Tensor] = []
    batch = tiny_batch(2)
    batch.rows["image"] = torch.full((2, 3, 12, 12), 200, dtype=torch.uint8)
    batch.rows["image"][1, :, :6] = 0
    _frozen(Seen(), size=SIDE)[0].enrich(batch, frozenset({"old.image"}), 8)
    wanted = F.interpolate(batch.rows["image"].float(), (SIDE, SIDE), mode="bicubic", antialias=True)
    assert seen[0].shape == (2, 3, SIDE, SIDE)
    assert torch.allclose(seen[0], wanted.clamp(0, 255)) and seen[0].min() >= 0


def test_another_tokenizer_reads_the_captions_anew_and_is_refused_for_further_texts():
    def retold(texts):
        return torch.tensor([[len(text) % WORDS] * 3 for text in texts])

    batch = replace(tiny_batch(4, groups={"positives": 2}), captions=["a", "bb", "ccc", ""])
    companion, _ = _frozen(retold=retold)
    got = companion.enrich(batch, frozenset({"old.text"}), 3)["old.text"]
    want = TinyTowers(seed=5)({"tokens": retold(batch.captions)}, frozenset({"text"}))["text"]
    assert torch.allclose(got, want, atol=1e-6)
    with pytest.raises(RecipeError, match="another tokenizer"):
        companion.enrich(batch, frozenset({"positives/old.text"}), 3)
    assert same_tokens(retold, retold) and not same_tokens(retold, lambda texts: retold(texts) + 1)


def test_the_soft_target_is_open_clips_distillation_and_the_teacher_stays_as_it_was():
    companion, engine = _frozen()
    before = {name: tensor.clone() for name, tensor in companion.towers.state_dict().items()}
    batch = tiny_batch(9)
    term = Softmax(tile=4, target={"kind": "teacher", "image": "old.image", "text": "old.text", "scale": 20.0})
    student, teacher = TinyTowers(), TinyTowers(seed=5).eval()
    ours, theirs = student(batch.rows), teacher(batch.rows)
    _, distill = DistillClipLoss()(
        ours["image"], ours["text"], student.log_scale.exp(), theirs["image"], theirs["text"], torch.tensor(20.0)
    )
    distill.backward()
    result = cached_step(engine, batch, build_objective([term]), 4, 0.01, companions=Companions((companion,)))
    assert result.loss == pytest.approx(distill.item(), rel=1e-5)
    norm = torch.stack([p.grad.norm() for p in student.parameters() if p.grad is not None]).norm()
    assert result.grad_norm == pytest.approx(norm.item(), rel=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in companion.towers.state_dict().items())


def test_a_term_without_weight_does_not_wake_it():
    companion, engine = _frozen()
    companion.towers.forward = None  # any call fails
    terms = [Softmax(), Softmax(name="soft", weight=0.0, target={"kind": "teacher", "image": "old.image"})]
    assert not cached_step(
        engine, tiny_batch(4), build_objective(terms), 4, 0.01, companions=Companions((companion,))
    ).skipped
