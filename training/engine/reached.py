"""The names of DeepSpeed that are no promise of its makers and that `zero.py` reaches for: looked for at the start.

A release that lacks one is refused by the name, before a step is taken: not met in the middle of a save.
"""

from typing import Any

from pipeline.errors import RecipeError

OLDEST = (0, 19, 2)  # the first release with coalesce_grad_reduction()
BELOW = (0, 20)  # the first one that nobody has looked at; pyproject.toml says the same
ENGINE = ("optimizer", "coalesce_grad_reduction", "_flush_coalesced_reduction_zero12",
          "_flush_coalesced_reduction_zero3")  # fmt: skip
OPTIMIZER = ("_global_grad_norm",)
OF_STAGE = {
    1: ("single_partition_of_fp32_groups", "bit16_groups"),
    2: ("single_partition_of_fp32_groups", "bit16_groups"),
    3: ("fp32_partitioned_groups_flat", "fp16_groups", "grad_position", "get_param_id"),
}
OF_PARAMETER = {1: ("_hp_mapping",), 2: ("_hp_mapping",), 3: ("ds_tensor", "ds_numel")}
OF_MAPPING = ("get_hp_fragment_address", "lp_fragment_address", "param_group_index")
OF_PACKAGE = ("__compatible_ops__",)  # of deepspeed.ops


def lacking(engine: Any, parameters: list[Any], stage: int) -> list[str]:
    """Names that are not there, each behind what it should be of."""
    optimizer = getattr(engine, "optimizer", None)
    found = [f"engine.{name}" for name in ENGINE if not hasattr(engine, name)]
    found += [f"optimizer.{name}" for name in (*OPTIMIZER, *OF_STAGE[stage]) if not hasattr(optimizer, name)]
    for parameter in parameters:
        found += [f"parameter.{name}" for name in OF_PARAMETER[stage] if not hasattr(parameter, name)]
        mapping = getattr(parameter, "_hp_mapping", None)
        found += [f"mapping.{name}" for name in OF_MAPPING if mapping is not None and not hasattr(mapping, name)]
    return list(dict.fromkeys(found))


def require(names: list[str], version: str) -> None:
    """RecipeError naming what a release of DeepSpeed lacks."""
    if names:
        expected = f"{words(OLDEST)} or newer, below {words(BELOW)}"
        hint = f"pip install 'deepspeed>={words(OLDEST)},<{words(BELOW)}', or set train.engine.zero_stage=0"
        raise RecipeError("train.engine.zero_stage", f"deepspeed {version} lacks {', '.join(names)}", expected, hint)


def words(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
