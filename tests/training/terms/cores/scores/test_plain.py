"""One exponential for rows and columns, or one each: the same numbers, whichever way a tile takes."""

from dataclasses import replace

import pytest

from tests.helpers.contrast import check, problems_of, softmax_parts, whole_of
from training.ranks.peers import Peers
from training.terms.cores import softmax


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("size", [1.0, 40.0])  # scores that lie close together, and far apart
@pytest.mark.parametrize("traits", [set(), {"masked", "twins", "extra", "queue", "weights"}], ids=["plain", "all"])
def test_either_way_gives_the_gradients_of_the_whole_step(traits, size, fused):
    [problem] = problems_of([8], traits)
    problem = replace(problem, image_ND=problem.image_ND * size)
    whole = whole_of([problem])
    check([softmax(problem, None, Peers.alone(), tile=3, fused=fused)], whole, softmax_parts(whole), 1e-9)
