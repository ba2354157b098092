"""The contrastive cores: losses of a whole step as pure functions outside autograd, never holding B x B scores."""

from training.terms.cores.interface import CoreOutput, Problem
from training.terms.cores.sigmoid import sigmoid
from training.terms.cores.softmax import softmax

CORES = {
    "softmax": softmax,
    "sigmoid": sigmoid,
}

__all__ = ["CORES", "CoreOutput", "Problem", "sigmoid", "softmax"]
