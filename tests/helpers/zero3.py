"""ZeRO-3 that spreads every weight over the ranks, as it does those of real towers: small ones it would keep whole."""

from training.engine import zero


def spread_every_weight() -> None:
    """In this process, from now on; trained numbers apart, which are of one element."""
    honest = zero._config

    def config(*given):
        made = honest(*given)
        if made["zero_optimization"]["stage"] == 3:
            made["zero_optimization"]["stage3_param_persistence_threshold"] = 2
        return made

    zero._config = config
