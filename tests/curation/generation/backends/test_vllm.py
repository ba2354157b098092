"""What vLLM is given and what is made of what it says, against a stand-in for the package: no machine here has it."""

import sys
import types

import pytest

from curation.generation.backends.vllm import VllmBackend
from curation.generation.request import Message, Request
from curation.stage import Context
from pipeline.errors import RecipeError
from tests.helpers.warcs import png


class Params(dict):
    def __init__(self, **said):
        super().__init__(said)


@pytest.fixture
def seen(monkeypatch):
    told: dict = {}

    class LLM:
        def __init__(self, model, **more):
            told["engine"] = {"model": model, **more}

        def chat(self, talks, params, use_tqdm):
            told["talks"], told["params"] = talks, params
            said = [("a cat", "stop"), ("cut of", "length")]
            return [
                types.SimpleNamespace(prompt_token_ids=[1] * 9, outputs=[
                    types.SimpleNamespace(text=text, finish_reason=finish, token_ids=[1, 2, 3])])
                for text, finish in said[: len(talks)]
            ]  # fmt: skip

    monkeypatch.setitem(sys.modules, "vllm", types.SimpleNamespace(LLM=LLM, SamplingParams=Params))
    return told


def test_talks_pictures_and_seeds_reach_it_and_its_words_come_back(seen):
    backend = VllmBackend(model="m", extra={"top_k": 5}, engine={"max_model_len": 2048}, stop=("\n",))
    requests = [
        Request((Message("system", "be brief"), Message("user", "what?", (png(3),))), "a", seed=7),
        Request((Message("user", "what?", (b"broken",)),), "b", seed=8),
        Request((Message("user", "say"),), "c", seed=9),
    ]
    one, two, three = backend.open(Context())(requests)
    assert (one[0].text, one[0].finish, one[0].tokens_in, one[0].tokens_out) == ("a cat", "stop", 9, 3)
    assert two[0].failed and (three[0].text, three[0].finish) == ("cut of", "length")
    assert seen["engine"] == {"model": "m", "max_model_len": 2048}
    assert [each["seed"] for each in seen["params"]] == [7, 9] and seen["params"][0]["top_k"] == 5
    first = seen["talks"][0]
    assert first[0] == {"role": "system", "content": "be brief"}
    assert [part["type"] for part in first[1]["content"]] == ["image_pil", "text"]
    assert first[1]["content"][0]["image_pil"].mode == "RGB"


def test_without_the_package_it_is_refused_before_any_work_and_says_what_to_do(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="vllm serve"):
        VllmBackend(model="m").check("curate.stages.0.backend")
