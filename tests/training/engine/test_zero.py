"""What DeepSpeed might let pass in another release, and we do not."""

from types import SimpleNamespace

import pytest
import torch

from training.engine.zero import DeepSpeedEngine


@pytest.mark.parametrize(
    ("norm", "may_step"),
    [(0.0, True), (3.5, True), (float("inf"), False), (float("-inf"), False), (float("nan"), False)],
)
def test_a_norm_that_is_no_number_forbids_the_step_whatever_deepspeed_thinks_of_it(norm, may_step):
    engine = SimpleNamespace(_zero=SimpleNamespace(_global_grad_norm=torch.tensor(norm)))
    assert DeepSpeedEngine._norm_is_finite(engine) is may_step
