"""MobileCLIP's distillation through cache and engine: KL of the textbook, in float64, on the whole batch."""

import functools

import pytest
import torch
import torch.nn.functional as F

from tests.helpers import terms
from tests.helpers.lanes import sampled
from training.ranks.peers import Peers
from training.terms.similarity_distill import SimilarityDistill

ONE = {"teachers": [{"scale": 20.0}]}
TWO = {"teachers": [{"scale": 20.0}, {"name": "old", "scale": 3.0}]}


def taught(rows):
    """Vectors of two teachers, of other widths than the student's and each other's; rows that do not count hold NaN."""
    made, n = torch.Generator().manual_seed(11), len(rows["valid"])
    names = {"teacher.image": 4, "teacher.text": 4, "old.image": 3, "old.text": 3}
    vectors = {
        name: F.normalize(torch.randn(n, width, generator=made).double(), dim=1) for name, width in names.items()
    }
    for column in vectors.values():
        column[~rows["valid"]] = torch.nan
    return rows | vectors


def twice(rows):
    return taught(rows) | {"id": rows["id"] // 3}


def kl(teacher, student):
    """Sum over the last dimension of t log(t / s), 0 log 0 = 0."""
    return (torch.special.xlogy(teacher, teacher) - teacher * student.clamp(min=1e-300).log()).sum(-1)


def distilled(features, scalars, rows, scales, share):
    valid, ids = rows["valid"], rows["id"][rows["valid"]]
    twin = (ids[:, None] == ids) & ~torch.eye(len(ids), dtype=torch.bool)

    def softmaxes(image, text, scale):
        scores = (scale * image[valid] @ text[valid].T).masked_fill(twin, -torch.inf)
        return scores.softmax(1), scores.T.softmax(1)

    student = softmaxes(features["image"], features["text"], scalars["log_scale"].exp())
    clip = sum(-side.diagonal().log().mean() for side in student) / 2
    total = torch.zeros((), dtype=torch.float64)
    for name, scale in scales.items():
        teacher = softmaxes(rows[f"{name}.image"].double(), rows[f"{name}.text"].double(), scale)
        total = total + sum(kl(t, s).mean() for t, s in zip(teacher, student, strict=True)) / 2 / len(scales)
    return (1 - share) * clip + share * total


one = functools.partial(distilled, scales={"teacher": 20.0}, share=1.0)
two = functools.partial(distilled, scales={"teacher": 20.0, "old": 3.0}, share=0.7)
CASES = {
    "one": terms.Case(SimilarityDistill(tile=3, **ONE), one, (), taught),
    "two": terms.Case(SimilarityDistill(tile=2, share=0.7, **TWO), two, (), taught),
    "ring": terms.Case(SimilarityDistill(tile=4, share=0.7, exchange="ring", **TWO), two, (), taught),
    "two gathers": terms.Case(SimilarityDistill(tile=4, share=0.7, exchange="gather2", **TWO), two, (), taught),
    "twins": terms.Case(SimilarityDistill(tile=64, share=0.7, **TWO), two, (), twice),
    "twins, two gathers": terms.Case(SimilarityDistill(tile=3, share=0.7, exchange="gather2", **TWO), two, (), twice),
}


@terms.on_every_share(CASES)
def test_any_world_gives_the_gradients_of_the_whole_batch(case, counts, masked):
    terms.check_features(CASES[case], counts, masked)


STEPS = [("one", 1, 0, [9], 3), ("two", 2, 2, [7, 3], 2), ("ring", 3, 1, [4, 0, 5], 2), ("two", 2, 3, [2, 6], 3)]


@pytest.mark.parametrize(("case", "world", "stage", "counts", "chunks"), sampled(STEPS, 1, 2))
def test_steps_walk_the_path_of_plain_torch(case, world, stage, counts, chunks):
    terms.check_steps(CASES[case], world, stage, counts, chunks, steps=3)


def test_a_student_that_says_what_the_teacher_says_has_nothing_to_lose():
    made = torch.Generator().manual_seed(3)
    image, text = (F.normalize(torch.randn(9, 5, generator=made), dim=1) for _ in range(2))
    rows = {"valid": torch.ones(9, dtype=torch.bool), "id": torch.arange(9)}
    rows |= {"teacher.image": image.half(), "teacher.text": text.half()}  # as they are stored
    given = {"image": image.half().double(), "text": text.half().double()}
    term = SimilarityDistill(teachers=[{"scale": 14.0}], tile=4).build()
    found = term(given, {"log_scale": torch.tensor([14.0]).double().log()}, rows, Peers.alone())
    assert found.value.item() == pytest.approx(0.0, abs=1e-12)
    assert all(column.abs().max() < 1e-12 for column in found.grads.values())
    assert found.metrics["loss_i2t"].item() == pytest.approx(0.0, abs=1e-12)


def test_open_clips_distillation_differs_by_the_teachers_entropy_alone():
    from open_clip.loss import DistillClipLoss

    rows = taught({"valid": torch.ones(8, dtype=torch.bool), "id": torch.arange(8)})
    made = torch.Generator().manual_seed(5)
    image, text = (F.normalize(torch.randn(8, 6, generator=made).double(), dim=1).requires_grad_() for _ in range(2))
    scale = torch.tensor(9.0, dtype=torch.float64)
    _, theirs = DistillClipLoss()(image, text, scale, rows["teacher.image"], rows["teacher.text"], torch.tensor(20.0))
    want = torch.autograd.grad(theirs, [image, text])
    term = SimilarityDistill(**ONE).build()
    features = {"image": image.detach(), "text": text.detach()}
    found = term(features, {"log_scale": scale.log().reshape(1)}, rows, Peers.alone())
    scores = 20 * rows["teacher.image"] @ rows["teacher.text"].T
    entropy = sum(torch.special.entr(side.softmax(1)).sum(1).mean() for side in (scores, scores.T)) / 2
    assert found.value.item() == pytest.approx((theirs - entropy).item(), abs=1e-9)
    for got, wanted in zip((found.grads["image"], found.grads["text"]), want, strict=True):
        assert torch.allclose(got, wanted, atol=1e-10)


def test_a_teacher_twice_is_refused():
    with pytest.raises(ValueError, match="twice"):
        SimilarityDistill(teachers=[{}, {}])
