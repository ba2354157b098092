"""Self-distillation of a masked view through cache and engine: the textbook's mean distance on the whole batch."""

import pytest
import torch
import torch.nn.functional as F

from pipeline.errors import DataError, RecipeError
from tests.helpers import terms
from tests.helpers.lanes import sampled
from tests.helpers.tiny_towers import WIDTH
from training.ranks.peers import Peers
from training.terms.masked_view import MaskedView
from training.wanted import Wanted


def followed(rows):
    """What a momentum encoder says of the whole pictures; of rows that do not count, nothing that is a number."""
    made, valid = torch.Generator().manual_seed(11), rows["valid"]
    column = F.normalize(torch.randn(len(valid), WIDTH, generator=made).double(), dim=1)
    column[~valid] = torch.nan
    return rows | {"slow.image": column}


def cosines(features, scalars, rows):
    """The same of vectors of length one: what a gradient of theirs has along the vector, the towers take out."""
    valid = rows["valid"]
    return (2 - 2 * F.cosine_similarity(features["masked"][valid], rows["slow.image"][valid].double())).mean()


def squared(features, scalars, rows):
    valid = rows["valid"]
    return (features["masked"][valid] - rows["slow.image"][valid].double()).square().sum(1).mean()


CASES = {"masked": terms.Case(MaskedView(teacher="slow"), squared, (), followed)}
THROUGH = {"masked": terms.Case(MaskedView(teacher="slow"), cosines, (), followed)}


@terms.on_every_share(CASES)
def test_any_world_gives_the_gradients_of_the_whole_batch(case, counts, masked):
    terms.check_features(CASES[case], counts, masked)


STEPS = [(1, 0, [9], 3), (2, 2, [7, 3], 2), (3, 1, [4, 0, 5], 2), (4, 3, [2, 0, 5, 3], 2)]


@pytest.mark.parametrize(("world", "stage", "counts", "chunks"), sampled(STEPS, 1, 2))
def test_steps_walk_the_path_of_plain_torch_and_of_cosines(world, stage, counts, chunks):
    terms.check_steps(THROUGH["masked"], world, stage, counts, chunks, steps=3)


def test_a_teacher_of_another_width_and_two_masks_are_refused():
    rows = {"valid": torch.ones(2, dtype=torch.bool), "slow.image": torch.ones(2, 3)}
    with pytest.raises(DataError, match="slow.image has 3 numbers"):
        MaskedView(teacher="slow").build()({"masked": torch.ones(2, 4)}, {}, rows, Peers.alone())
    with pytest.raises(RecipeError, match="0.5 and 0.75"):
        Wanted(masked=0.5) | Wanted(masked=0.75)
    assert (Wanted(masked=0.5) | Wanted(views=1)).masked == 0.5 == (Wanted() | Wanted(masked=0.5)).masked
