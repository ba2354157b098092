"""A kernel that cannot run here is refused before any work, and says so."""

import pytest

from pipeline.errors import RecipeError
from training.terms.cores.scores.works import check_kernel


def test_triton_without_a_gpu_is_refused_with_what_to_type(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(RecipeError, match=r"train\.loss: clip\.kernel: triton on cpu; a GPU") as refused:
        check_kernel("clip", "triton", "cpu")
    assert refused.value.hint == "kernel: torch"
    check_kernel("clip", "triton", "cuda")
    check_kernel("clip", "torch", "cpu")


def test_triton_that_is_not_installed_is_refused_on_any_device(monkeypatch):
    monkeypatch.setattr("training.terms.cores.scores.works.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="without the package triton"):
        check_kernel("clip", "triton", "cuda")
    check_kernel("clip", "torch", "cuda")
