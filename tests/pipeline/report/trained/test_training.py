"""Curves and the figures beside them; the results table: by set, metrics in the order that people count."""

import numpy as np

from pipeline.report.data import Evaluated, Trained
from pipeline.report.drawing.curves import FIELDS, Steps
from pipeline.report.schemas import EvalResults
from pipeline.report.trained.training import MAX_CURVES, eval_charts, eval_groups, headline, training_charts


def trained(evals=(), **values) -> Trained:
    """Three steps with these fields."""
    fields = {name: np.array(values.get(name, [np.nan] * 3), np.float64) for name in FIELDS}
    return Trained(Steps(np.array([10, 20, 30]), fields), list(evals), "x", False)


def legends(charts) -> dict[str, list[str]]:
    return {chart.title: [f"{key.label} {key.value}".strip() for key in chart.legend] for chart in charts}


def test_beside_a_curve_stands_the_figure_that_says_most_of_it_and_what_was_never_logged_has_none():
    fields = {
        "loss": [3, 2, 1],
        "lr": [0.25, 0.5, 0.125],
        "samples_per_s": [400, 100, 900],
        "memory_mb": [7, np.nan, 5],
    }
    assert legends(training_charts(trained(**fields))) == {
        "Loss": ["3.000 → 1.000"], "Learning rate": ["peak 0.500"], "Pairs per second": ["median 400"],
        "Memory (MB)": ["peak 7.000"],
    }  # fmt: skip
    times = legends(training_charts(trained(time_loss_s=[1, 1, 1], time_fetch_s=[3, 3, 3])))
    assert times == {"Seconds of a step": ["waiting for data 75%", "loss 25%"]}


def test_curves_of_a_set_begin_with_the_untrained_model_where_it_was_scored():
    points = [(5, {"a/i2t_r5": 0.5, "a/i2t_r10": 0.75, "b/top1": 0.25}), (9, {"a/i2t_r5": 0.625})]
    before = Evaluated(EvalResults(before={"a/i2t_r5": 0.125, "c/top1": 0.5}), "x")
    r5, r10 = "image-to-text R@5", "image-to-text R@10"
    rest = {"b": ["top-1 accuracy 0.250 → 0.250"]}
    assert legends(eval_charts(trained(points), before)) == {
        "a": [f"{r5} 0.125 → 0.625", f"{r10} 0.750 → 0.750"], **rest
    }  # fmt: skip
    assert legends(eval_charts(trained(points), None))["a"][0] == f"{r5} 0.500 → 0.625"
    scored = [(0, {"a/i2t_r5": 0.25}), *points]
    assert legends(eval_charts(trained(scored), before))["a"][0] == f"{r5} 0.250 → 0.625"
    [many] = eval_charts(trained([(5, {f"a/top{n}": 0.5 for n in range(1, 12)})]), None)
    assert [key.label for key in many.legend] == [f"top-{n} accuracy" for n in range(1, MAX_CURVES + 1)]


def test_sets_stand_as_the_recipe_has_them_with_what_is_known_of_them():
    results = {"z/top1": 0.5, "y/i2t_r1": 0.25, "m/top1": 0.75, "n/top1": 0.5}
    sets = [
        {"name": "z", "kind": "zero_shot", "images": 1200, "classes": 10, "chance": {"top1": 0.125}},
        {"name": "unseen"},
        {"name": "y", "chance": {"y/i2t_r1": 0.0625}},
        {"name": "n", "chance": 0.5},
    ]
    found = Evaluated(EvalResults(results=results, before={"z/top1": 0.375}, sets=sets), "x")
    groups = {group.name: group for group in eval_groups(found)}
    assert list(groups) == ["z", "y", "n", "m"]
    assert [group.about for group in groups.values()] == ["zero shot, 1,200 images, 10 classes", "", "", ""]
    assert [group.rows[0].chance for group in groups.values()] == [0.125, 0.0625, 0.5, None]
    assert [group.rows[0].change for group in groups.values()] == [0.125, None, None, None]
    assert headline(found).set_name == "y", "recall before accuracy"
    other = Evaluated(EvalResults(results={"b/x": 0.5, "a/z": 0.5, "a/y": 0.25}), "x")
    assert headline(other).metric == "y", "the first in order"


def test_results_stand_by_set_and_r5_before_r10():
    results = {"b/i2t_r10": 0.4, "b/i2t_r5": 0.3, "a/top1": 0.2, "b/i2t_r1": 0.1}
    groups = eval_groups(Evaluated(EvalResults(results=results), "x"))
    assert [(group.name, [row.metric for row in group.rows]) for group in groups] == [
        ("a", ["top1"]),
        ("b", ["i2t_r1", "i2t_r5", "i2t_r10"]),
    ]
    assert headline(Evaluated(EvalResults(results=results), "x")).metric == "i2t_r10"
