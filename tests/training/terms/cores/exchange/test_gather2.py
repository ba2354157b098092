"""By two gathers no bit depends on how rows are shared out."""

import pytest
import torch

from tests.helpers.contrast import problems_of
from tests.helpers.lanes import sampled
from tests.helpers.simulated import run_simulated
from training.terms.cores import CORES, Problem

SHARES = [[96], [48, 48], [32, 32, 32], [24, 24, 24, 24], [7, 61, 0, 28], [1, 95], [95, 1], [12] * 8]


def shared(counts: list[int], near: float, dtype: torch.dtype) -> list[Problem]:
    whole = problems_of([96], set(), dtype=dtype, width=64)[0]
    text = whole.text_MD + near * whole.image_ND
    cuts = [slice(sum(counts[:rank]), sum(counts[: rank + 1])) for rank in range(len(counts))]
    return [Problem(whole.image_ND[cut], text[cut], torch.tensor([4.0], dtype=dtype), whole.bias) for cut in cuts]


@pytest.mark.parametrize("near", [0.0, 2.0])  # untrained, and learnt so well that scores lie far apart
@pytest.mark.parametrize("dtype", sampled([torch.float32, torch.float64], 0))
@pytest.mark.parametrize("tile", [16, 32, (24, 48), 40, 512], ids=str)
@pytest.mark.parametrize("core", CORES)
def test_every_share_gives_the_same_bits(core, tile, dtype, near):
    found = []
    for counts in SHARES:
        problems = shared(counts, near, dtype)
        outputs = run_simulated(
            lambda peers, own=problems: CORES[core](own[peers.rank], None, peers, exchange="gather2", tile=tile),
            len(counts),
        )
        gradients = [torch.cat([getattr(out, name) for out in outputs]) for name in ("d_image_ND", "d_text_MD")]
        for out in outputs:
            bias = [] if core == "softmax" else [out.d_bias]
            found.append([out.value, out.d_log_scale, *out.metrics.values(), *bias, *gradients])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))
