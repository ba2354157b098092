"""The terms an objective can have. A new one is a file here and a line below; the gradient tests read the table."""

from training.terms.sigmoid import Sigmoid
from training.terms.softmax import Softmax

TERMS = {
    "softmax": Softmax,
    "sigmoid": Sigmoid,
}
