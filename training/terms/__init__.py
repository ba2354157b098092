"""The terms an objective can have. A new one is a file here and a line below; the gradient tests read the table."""

from training.terms.cloob import Cloob
from training.terms.cyclip import Cyclip
from training.terms.infoloob import Infoloob
from training.terms.sigmoid import Sigmoid
from training.terms.softmax import Softmax
from training.terms.uniformity_alignment import UniformityAlignment
from training.terms.views import Views

TERMS = {
    "softmax": Softmax,
    "sigmoid": Sigmoid,
    "infoloob": Infoloob,
    "cloob": Cloob,
    "cyclip": Cyclip,
    "uniformity_alignment": UniformityAlignment,
    "views": Views,
}
