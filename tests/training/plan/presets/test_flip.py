from training.plan.presets.flip import Flip


def test_patches_are_dropped_and_then_all_are_seen() -> None:
    masked, tuning = Flip(patch_dropout=0.4, share=0.9, tuning_lr=0.5).made(100, 0.2)
    assert (masked.until, masked.model) == (90, {"patch_dropout": 0.4})
    assert (tuning.until, tuning.model, tuning.optimizer) == (100, {}, {"lr": 0.1})
