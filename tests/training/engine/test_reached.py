"""What is reached for in DeepSpeed is there, is listed, and is named when it is not."""

import ast
import tomllib
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.errors import RecipeError
from tests.helpers.places import ROOT
from tests.helpers.ranks import run_ranks
from tests.helpers.tiny_towers import TinyTowers
from training.engine import reached
from training.engine.build import build_engine
from training.engine.optimizers.adamw import AdamW
from training.engine.settings import EngineSettings

BY_STAGE = [*reached.OF_STAGE.values(), *reached.OF_PARAMETER.values()]
NAMES = {name for names in BY_STAGE for name in names}
NAMES |= {*reached.ENGINE, *reached.OPTIMIZER, *reached.OF_MAPPING, *reached.OF_PACKAGE}
PUBLIC = {"backward", "eval", "train", "step"}  # DeepSpeedEngine's documented interface


def test_every_name_that_is_reached_for_is_listed() -> None:
    """Attributes of DeepSpeed's engine, of its optimizer and of what it hangs on parameters."""
    tree = ast.parse((ROOT / "training/engine/zero.py").read_text())
    owners = {"self._engine", "self._zero", "zero", "mapping", "parameter._hp_mapping", "deepspeed.ops"}
    used = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n.value) in owners}
    used |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr.startswith(("ds_", "_hp"))}
    assert used - PUBLIC == NAMES


def _looked_for(peers: Any, stage: int) -> list[list[str]]:
    engine: Any = build_engine(TinyTowers(), EngineSettings(zero_stage=stage), AdamW(), peers)
    found = [reached.lacking(engine._engine, list(engine.towers.parameters()), stage)]
    for name in (*reached.OPTIMIZER, *reached.OF_STAGE[stage]):
        holding = {each: getattr(engine._zero, each) for each in (*reached.OPTIMIZER, *reached.OF_STAGE[stage])}
        holding.pop(name)
        without = SimpleNamespace(optimizer=SimpleNamespace(**holding), **dict.fromkeys(reached.ENGINE[1:]))
        found.append(reached.lacking(without, [], stage))
    bare = reached.lacking(engine._engine, [SimpleNamespace()], stage)
    return [*found, bare]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_all_names_are_there_and_a_missing_one_is_found(stage: int) -> None:
    (found,) = run_ranks(_looked_for, 1, stage)
    assert found[0] == []
    assert found[1:-1] == [[f"optimizer.{name}"] for name in (*reached.OPTIMIZER, *reached.OF_STAGE[stage])]
    assert found[-1] == [f"parameter.{name}" for name in reached.OF_PARAMETER[stage]]


def test_a_missing_name_is_a_wrong_recipe_that_says_what_to_install() -> None:
    reached.require([], "9")
    with pytest.raises(RecipeError, match="deepspeed 0.30.1 lacks optimizer.x") as caught:
        reached.require(["optimizer.x"], "0.30.1")
    assert "pip install 'deepspeed>=0.19.2,<0.20'" in str(caught.value) and "zero_stage=0" in str(caught.value)


def test_the_package_asks_for_the_releases_that_were_looked_at() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = f"deepspeed>={reached.words(reached.OLDEST)},<{reached.words(reached.BELOW)}"
    assert wanted in extras["train"]


def _failing_inside(peers: Any, stage: int) -> list[str]:
    """The collectives that a rank enters after an error of its own in the middle of a step."""
    from torch import distributed

    engine: Any = build_engine(TinyTowers(), EngineSettings(zero_stage=stage), AdamW(), peers)
    entered: list[str] = []
    for name in ("all_reduce", "all_gather_into_tensor", "reduce_scatter_tensor", "reduce", "all_gather"):
        honest = getattr(distributed, name)

        def counted(*given: Any, of: Any = honest, called: str = name, **named: Any) -> Any:
            entered.append(called)
            return of(*given, **named)

        setattr(distributed, name, counted)
    for kind in ("_flush_coalesced_reduction_zero12", "_flush_coalesced_reduction_zero3"):
        setattr(type(engine._engine), kind, lambda self, optimizer, kind=kind: entered.append(kind))
    try:
        with engine.accumulate():
            entered.clear()
            raise KeyError("planted")
    except KeyError:
        return entered


@pytest.mark.parametrize("stage", [1, 3])
def test_an_error_inside_a_step_is_followed_by_no_collective(stage: int) -> None:
    assert run_ranks(_failing_inside, 1, stage) == [[]]
