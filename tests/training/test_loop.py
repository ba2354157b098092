"""The loop: what a run logs, scores, refuses and leaves behind."""

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import RecipeError
from pipeline.recipe import load
from tests.helpers.places import ROOT
from tests.helpers.ranks import run_ranks
from tests.helpers.tiny_run import metrics, train_here, write_eval_set, write_recipe
from training.launch.settings import LaunchSettings
from training.output.metrics import JsonLines
from training.ranks.peers import Peers
from training.settings import TrainSettings, check_training
from training.terms.softmax import Softmax

README = (ROOT / "training/README.md").read_text(encoding="utf-8")
FIELDS = {
    name
    for line in README.split("| field | unit | meaning |\n")[1].split("\n\n")[0].splitlines()
    for name in re.findall(r"`(\w+)`", line.split("|")[1])
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on two ranks that scores two sets every 5 steps."""
    folder = tmp_path_factory.mktemp("loop")
    sets = [
        {"kind": "retrieval", "name": "pairs", "path": str(write_eval_set(folder / "pairs", 21, "txt"))},
        {"kind": "zero_shot", "name": "classes", "path": str(write_eval_set(folder / "classes", 20, "cls"))},
    ]
    recipe = write_recipe(folder, eval={"every_steps": 5, "sets": sets, "batch": 8})
    with recipe.open("a") as file:
        file.write(f"eval: {json.dumps({'sets': sets, 'output': str(folder / 'eval'), 'batch': 8})}\n")
    assert train_here(recipe, 2, "train.engine.zero_stage=3") == ["", ""]
    return folder


def test_every_step_has_one_line_with_every_field_of_the_readme(finished: Path) -> None:
    rows = metrics(finished / "train")
    assert [row["step"] for row in rows] == list(range(12))
    assert all(row.keys() == FIELDS and all(row[name] is not None for name in FIELDS) for row in rows)
    assert [row["samples"] for row in rows] == [16 * (step + 1) for step in range(12)]
    assert rows[-1]["epoch"] == pytest.approx(11 * 16 / 96)
    assert rows[0]["lr"] < rows[2]["lr"] and rows[2]["lr"] > rows[-1]["lr"]
    for row in rows:
        parts = sum(row[f"time_{name}_s"] for name in ("fetch", "pass1", "loss", "pass2", "optimizer"))
        assert 0 < parts <= 16 / row["samples_per_s"] * 1.01


def test_what_the_clip_loss_logs_is_in_the_readme() -> None:
    rows_ND = torch.nn.functional.normalize(torch.eye(4) + 0.1, dim=1)
    features, valid_N = {"image": rows_ND, "text": rows_ND}, torch.ones(4, dtype=torch.bool)
    output = Softmax().build()(features, {"log_scale": torch.ones(1)}, {"valid": valid_N}, Peers.alone())
    assert output.metrics.keys() < FIELDS


def test_the_loss_falls(finished: Path) -> None:
    losses = [row["loss"] for row in metrics(finished / "train")]
    assert sum(losses[-3:]) < sum(losses[:3]) and losses[0] == pytest.approx(math.log(16), rel=0.5)


def test_scores_in_the_loop_equal_scores_of_the_checkpoint(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished / "train" / "evals.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10, 12]
    by_world = run_ranks(_evaluate, 2, str(finished / "recipe.yaml"))
    assert by_world[0] == by_world[1]
    found = json.loads((finished / "eval" / "eval.json").read_text())
    assert found["results"] == pytest.approx(lines[-1]["eval"], abs=1e-8) and found["step"] == 12
    assert found["checkpoint"].endswith("step-00000012") and found["before"].keys() == found["results"].keys()
    assert {"name": "pairs", "kind": "retrieval", "images": 21, "texts": 31}.items() <= found["sets"][0].items()
    for world in (1, 3):
        assert run_ranks(_evaluate, world, str(finished / "recipe.yaml"))[0] == by_world[0]


def _evaluate(peers: Any, recipe: str) -> dict[str, Any]:
    from training.score import evaluate
    from training.settings import EvalSettings

    loaded = load(recipe)
    train = loaded.section("train", TrainSettings)
    return evaluate(loaded.section("eval", EvalSettings), train, seed=loaded.seed, peers=peers)


def test_an_exported_file_scores_as_its_checkpoint(finished: Path, tmp_path: Path) -> None:
    from training.export import export

    path = export(str(finished / "train"), str(tmp_path / "m.pt"))
    copy = tmp_path / "recipe.yaml"
    copy.write_text((finished / "recipe.yaml").read_text().replace(str(finished / "eval"), str(tmp_path / "eval")))
    from_checkpoint = _evaluate_alone(copy)
    text = copy.read_text().replace('"batch": 8}\n', f'"batch": 8, "checkpoint": "{path}"}}\n')
    assert text != copy.read_text()
    copy.write_text(text)
    assert _evaluate_alone(copy) == from_checkpoint


def _evaluate_alone(recipe: Path) -> dict[str, float]:
    from training.ranks.peers import Peers

    return _evaluate(Peers.alone(), str(recipe))["results"]


def test_the_recipe_is_kept_beside_the_run(finished: Path) -> None:
    kept = load(str(finished / "train" / "recipe.yaml"))
    assert kept.section("train", TrainSettings).engine.zero_stage == 3 and kept.seed == 7


def _first_weights(peers: Any, recipe: str) -> float:
    towers = load(recipe).section("train", TrainSettings).towers(7)
    return sum(float(parameter.detach().double().sum()) for parameter in towers.parameters())


def test_weights_begin_the_same_on_every_rank_and_world(finished: Path) -> None:
    recipe = str(finished / "recipe.yaml")
    assert len({*run_ranks(_first_weights, 1, recipe), *run_ranks(_first_weights, 3, recipe)}) == 1


def _with_nan(peers: Any, recipe: str, overrides: list[str], bad_steps: list[int]) -> str:
    """The run with a loss that is NaN at some steps, on one rank's features only."""
    from tests.helpers.tiny_run import _train_as
    from training import loop

    honest = loop.cached_step

    def broken(engine: Any, batch: Any, objective: Any, *rest: Any) -> Any:
        term = objective.step_terms["softmax"]

        def spoilt(features: Any, *given: Any) -> Any:
            if batch.step in bad_steps and peers.rank == peers.world - 1:
                features = features | {"image": features["image"] * torch.nan}
            return term(features, *given)

        spoilt.needs = term.needs
        return honest(engine, batch, dataclasses.replace(objective, step_terms={"softmax": spoilt}), *rest)

    loop.cached_step = broken
    return _train_as(peers, recipe, overrides, {})


def test_a_non_finite_step_is_skipped_and_its_pairs_named(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    assert run_ranks(_with_nan, 2, str(recipe), [], [4, 7]) == ["", ""]
    rows = metrics(tmp_path / "train")
    assert [row["step"] for row in rows if row["skipped"]] == [4, 7] and rows[4]["loss"] is None
    dumped = json.loads((tmp_path / "train" / "nonfinite-step-4.json").read_text())
    assert len(set(dumped["uids"])) == 16 and dumped["loss"] == "nan"
    state = json.loads((tmp_path / "train" / "checkpoints" / "step-00000012" / "state.json").read_text())
    assert state["nonfinite_steps"] == 2 and state["optimizer_steps"] == 10
    assert all(math.isfinite(row["loss"]) for row in rows if not row["skipped"])


@pytest.mark.parametrize(("policy", "bad", "kept"), [("stop", [4], 3), ("skip", [4, 5, 6], 6)])
def test_a_run_stops_at_once_or_after_some_non_finite_steps_in_a_row(tmp_path, policy, bad, kept: int) -> None:
    recipe = write_recipe(tmp_path, on_nonfinite=policy, max_nonfinite=3)
    for said in run_ranks(_with_nan, 2, str(recipe), [], bad):
        assert said.startswith(f"DataError: step {bad[-1]}: loss nan") and f"nonfinite-step-{bad[-1]}.json" in said
    assert (tmp_path / "train" / "checkpoints" / f"step-{kept:08d}" / "COMPLETE.json").exists()


def _hold_and_train(peers: Any, recipe: str) -> list[str]:
    from tests.helpers.tiny_run import _train_as
    from training.output.folder import claimed
    from training.ranks.peers import Peers

    with claimed(load(recipe).section("train", TrainSettings).output_path, Peers.alone()):
        said = _train_as(peers, recipe, [], {})
    return [said, _train_as(peers, recipe, ["train.steps=1"], {})]


def test_a_second_run_on_one_output_is_refused_naming_the_first(tmp_path: Path) -> None:
    ((refused, allowed),) = run_ranks(_hold_and_train, 1, str(write_recipe(tmp_path)))
    assert refused.startswith("Busy") and "another run is at work here" in refused and ", process " in refused
    assert allowed == ""


@pytest.mark.parametrize("tail", [b'{"step":5,"loss"', b'{"step":5}\n{"step":6}\n', b"\xff\xfe\n", b""])
def test_resuming_cuts_the_log_at_the_checkpoint(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    good = b"".join(b'{"step":%d}\n' % step for step in range(5))
    path.write_bytes(good + tail)
    with JsonLines(path, keep_below=4) as lines:
        lines.write({"step": 4, "loss": float("nan"), "parts": {"x": float("inf")}})
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    assert rows[4] == {"step": 4, "loss": None, "parts": {"x": None}}


def test_settings_that_cannot_work_are_refused_before_any_work(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)

    def refused(*overrides: str) -> str:
        with pytest.raises(RecipeError) as caught:
            loaded = load(str(recipe), overrides)
            processes = loaded.section("launch", LaunchSettings).processes
            check_training(loaded.section("train", TrainSettings), processes)
        return str(caught.value)

    assert "train.output" in refused("train.output=s3://bucket/run")
    assert "train.batch.global" in refused("train.batch.global=2", "launch.processes=3")
    assert "did you mean `global`" in refused("train.batch.globl=2")
    assert "train.optimizer.lr" in refused("train.optimizer.lr=-1")
    assert "softmax" in refused("train.loss.kind=sofmax")
