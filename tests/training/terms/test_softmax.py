"""CLIP's loss through cache and engine: the textbook's on the whole batch, further captions and negatives too."""

import pytest
import torch
import torch.nn.functional as F

from tests.helpers import terms
from training.terms.softmax import Softmax


def scores_of(features, scalars, rows, groups=()):
    """(scores of valid images and all texts, whose each text is): the row, or -1; texts of masked rows are left out."""
    valid, row = rows["valid"], torch.cumsum(rows["valid"], 0) - 1
    texts, owners = [features["text"][valid]], [row[valid]]
    for group in groups:
        owner = rows[f"{group}/owner"]
        kept = valid[owner]
        texts.append(features[f"{group}/text"][kept])
        owners.append(row[owner[kept]] if group == "positives" else torch.full_like(owner[kept], -1))
    images, texts, owners = features["image"][valid], torch.cat(texts), torch.cat(owners)
    return scalars["log_scale"].exp() * images @ texts.T, owners


def plain(features, scalars, rows, smoothing=0.0, groups=()):
    """Only the first text of a row answers for it."""
    scores, owners = scores_of(features, scalars, rows, groups)
    n = len(scores)
    i2t = F.cross_entropy(scores, torch.arange(n), label_smoothing=smoothing)
    t2i = F.cross_entropy(scores.T[:n], torch.arange(n), label_smoothing=smoothing)
    return (i2t + t2i) / 2


def smoothed(features, scalars, rows):
    return plain(features, scalars, rows, 0.1)


def negatives(features, scalars, rows):
    """NegCLIP (Yuksekgonul et al., 2023): wrong texts are candidates of all images, and ask for no image."""
    return plain(features, scalars, rows, groups=("negatives",))


def captions(features, scalars, rows):
    """K texts of an image share its target alike; each text asks for its one image."""
    scores, owners = scores_of(features, scalars, rows, ("positives", "negatives"))
    own = owners[None] == torch.arange(len(scores))[:, None]
    logs = scores.log_softmax(1).masked_fill(~own, 0).sum(1) / own.sum(1)
    asks = owners >= 0
    return (-logs.mean() + F.cross_entropy(scores.T[asks], owners[asks])) / 2


def taught(rows):
    """Vectors of another width, as a teacher would give them, of rows and of all their texts."""
    made = torch.Generator().manual_seed(11)
    owners = [len(rows["valid"])] * 2 + [len(rows[f"{group}/owner"]) for group in ("positives", "negatives")]
    names = ("teacher.image", "teacher.text", "positives/teacher.text", "negatives/teacher.text")
    vectors = [F.normalize(torch.randn(size, 4, generator=made).double(), dim=1) for size in owners]
    return rows | dict(zip(names, vectors, strict=True))


def soft(features, scalars, rows):
    """CLIP-KD: the softmax of the teacher's scores is the target; a row's own texts share what they get alike."""
    scores, owners = scores_of(features, scalars, rows, ("positives", "negatives"))
    given = {name.replace("teacher.", ""): column for name, column in rows.items() if "teacher." in name}
    target, _ = scores_of(given, {"log_scale": torch.tensor(20.0).log()}, rows, ("positives", "negatives"))
    own = owners[None] == torch.arange(len(scores))[:, None]
    target_i2t = target.softmax(1)
    target_i2t = torch.where(own, (target_i2t * own).sum(1, keepdim=True) / own.sum(1, keepdim=True), target_i2t)
    asks = owners >= 0
    i2t = -(target_i2t * scores.log_softmax(1)).sum(1).mean()
    t2i = -(target[:, asks].softmax(0) * scores[:, asks].log_softmax(0)).sum(0).mean()
    return (i2t + t2i) / 2


def labelled(rows):
    return rows | {"kind": (torch.arange(len(rows["valid"])) % 3 - 1).double()}


def classes(features, scalars, rows):
    """UniCL: the target is spread alike over all of a row's label; negative ones are nobody's."""
    scores, _ = scores_of(features, scalars, rows)
    kind = rows["kind"][rows["valid"]]
    equal = ((kind[:, None] == kind) & (kind >= 0)).double()
    target = torch.where((kind >= 0)[:, None], equal / equal.sum(1, keepdim=True).clamp(min=1), torch.eye(len(kind)))
    return -((target * scores.log_softmax(1)).sum(1).mean() + (target * scores.T.log_softmax(1)).sum(1).mean()) / 2


GROUPS = (("positives", 2), ("negatives", 3))
CASES = {
    "clip": terms.Case(Softmax(tile=3), plain),
    "smoothed": terms.Case(Softmax(tile=64, target={"kind": "one_hot", "smoothing": 0.1}), smoothed),
    "two gathers": terms.Case(Softmax(tile=2, exchange="gather2"), plain),
    "ring": terms.Case(Softmax(tile=4, exchange="ring"), plain),
    "negatives": terms.Case(Softmax(tile=3, negatives=3), negatives, GROUPS),
    "captions": terms.Case(Softmax(tile=3, positives=2, negatives=3, target={"kind": "captions"}), captions, GROUPS),
    "teacher": terms.Case(
        Softmax(tile=3, positives=2, negatives=3, target={"kind": "teacher", "scale": 20.0}), soft, GROUPS, taught
    ),
    "labels": terms.Case(Softmax(tile=3, target={"kind": "labels", "field": "kind"}), classes, (), labelled),
}


@terms.on_every_share(CASES)
def test_any_world_gives_the_gradients_of_the_whole_batch(case, counts, masked):
    terms.check_features(CASES[case], counts, masked)


@pytest.mark.parametrize(
    ("case", "world", "stage", "counts", "chunks"),
    [
        ("clip", 1, 0, [9], 3),
        ("smoothed", 2, 2, [7, 3], 2),
        ("ring", 3, 1, [4, 0, 5], 2),
        ("negatives", 2, 3, [2, 6], 3),
        pytest.param("captions", 2, 3, [6, 3], 2, marks=pytest.mark.exhaustive),
        pytest.param("captions", 3, 0, [0, 5, 4], 3, marks=pytest.mark.exhaustive),
        pytest.param("two gathers", 4, 3, [2, 0, 5, 3], 2, marks=pytest.mark.exhaustive),
    ],
)
def test_five_steps_walk_the_path_of_plain_torch(case, world, stage, counts, chunks):
    terms.check_steps(CASES[case], world, stage, counts, chunks, steps=5)
