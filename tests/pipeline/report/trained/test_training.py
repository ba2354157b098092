"""The results table: by set, metrics in the order that people count."""

from pipeline.report.data import Evaluated
from pipeline.report.schemas import EvalResults
from pipeline.report.trained.training import eval_groups, headline


def test_results_stand_by_set_and_r5_before_r10():
    results = {"b/i2t_r10": 0.4, "b/i2t_r5": 0.3, "a/top1": 0.2, "b/i2t_r1": 0.1}
    groups = eval_groups(Evaluated(EvalResults(results=results), "x"))
    assert [(group.name, [row.metric for row in group.rows]) for group in groups] == [
        ("a", ["top1"]),
        ("b", ["i2t_r1", "i2t_r5", "i2t_r10"]),
    ]
    assert headline(Evaluated(EvalResults(results=results), "x")).metric == "i2t_r10"
