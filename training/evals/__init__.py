"""The evaluations a recipe can name. A new one is a file here, a line below and a test."""

from training.evals.retrieval import Retrieval
from training.evals.zero_shot import ZeroShot

EVALS: dict[str, type] = {
    "retrieval": Retrieval,
    "zero_shot": ZeroShot,
}
