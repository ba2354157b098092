"""The growth benchmark times every stage and every source."""

import pytest

from curation.stages import STAGES
from tests.helpers.benchmarks import imported

sets, inputs, plans = imported("made_up.sets"), imported("made_up.inputs"), imported("growth")


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "PART_PAIRS", 64)
    monkeypatch.setattr(inputs, "PICTURES", 4)
    monkeypatch.setattr(sets, "PART_PAIRS", 64)
    return {name: sets.settings_of(name, tmp_path / name, 128) for name in sets.SETS}


def test_the_sets_have_every_stage_and_every_source(made, monkeypatch):
    assert sets.missing(list(made.values())) == set(), "a new one: add it to a set of benchmarks/made_up/sets.py"
    monkeypatch.setitem(STAGES, "planted", None)
    assert sets.missing(list(made.values())) == {"planted"}


@pytest.mark.parametrize("name", ["core", "inputs", "vectors"])
def test_a_set_runs_and_costs_what_the_formulae_say(made, tmp_path, name):
    counts = imported("counts")
    with counts.Counts() as seen:
        manifest = counts.driver.curate(made[name], name="growth", seed=1, recipe_digest="growth", quiet=True)
    assert manifest.num_pairs > 0
    counted = seen.cost(counts.CLOSING)
    assert counted._replace(kept=0) == seen.expected._replace(kept=0) and counted.kept <= seen.expected.kept
