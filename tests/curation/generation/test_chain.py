"""A chain is its steps: one after the other, each with what is said beside it."""

import pytest
from pydantic import ValidationError

from curation.generation.chain import builtin_chains, expanded
from curation.settings import CurateSettings

SERVER = {"kind": "openai", "url": "http://host/v1", "model": "m"}


def settings(*stages):
    plain = {"sources": [{"kind": "warc", "paths": ["x"]}], "stages": list(stages), "output": "out"}
    return CurateSettings.model_validate(plain).stages


@pytest.mark.parametrize("name", builtin_chains())
def test_every_built_in_chain_makes_stages_whose_columns_come_before_they_are_read(name):
    chain = {"kind": "generate", "chain": f"builtin:{name}", "name": "last", "backend": SERVER}
    stages = settings({"kind": "image_decode"}, chain, {"kind": "language"})
    made = stages[1:-1]
    assert len(made) >= 2 and made[-1].name == "last" and all(each.kind == "generate" for each in made)
    added: set[str] = set()
    for each in made:
        assert {c for c in each.reads if "." not in c and c != "image"} <= added
        added |= {field.name for field in each.adds}


def test_what_a_step_says_itself_counts_and_backends_are_put_together():
    chain = [{"name": "a", "role": "column", "prompt": "builtin:caption", "backend": {"model": "big"}},
             {"prompt": "builtin:rewrite", "samples": 3}]  # fmt: skip
    one, two = settings({"kind": "generate", "chain": chain, "name": "z", "samples": 2, "backend": SERVER})
    assert (one.name, one.samples, one.backend.model, one.backend.url) == ("a", 2, "big", "http://host/v1")
    assert (two.name, two.samples, two.backend.model, two.role) == ("z", 3, "m", "caption")


def test_stages_without_a_chain_are_left_alone():
    assert expanded([{"kind": "language"}, 3]) == [{"kind": "language"}, 3] and expanded("x") == "x"


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ({"kind": "language", "chain": []}, "in a stage `generate`"),
        ({"kind": "generate", "chain": "builtin:none"}, "builtin:caption_then_fuse"),
        ({"kind": "generate", "chain": []}, "list of steps"),
        ({"kind": "generate", "chain": [{"prompt": "a"}, {"prompt": "b"}]}, "step 1 of 2: has no name"),
    ],
)
def test_what_is_no_chain_is_refused_with_what_is_expected(stage, said):
    with pytest.raises(ValidationError, match=said):
        settings(stage)
