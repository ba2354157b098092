"""The terms an objective can have. A new one is a file here and a line below; the gradient tests read the table."""

from training.terms.caption import Caption
from training.terms.cloob import Cloob
from training.terms.cyclip import Cyclip
from training.terms.feature_distill import FeatureDistill
from training.terms.filip import Filip
from training.terms.infoloob import Infoloob
from training.terms.label_head import LabelHead
from training.terms.masked_view import MaskedView
from training.terms.sigmoid import Sigmoid
from training.terms.similarity_distill import SimilarityDistill
from training.terms.softmax import Softmax
from training.terms.uniformity_alignment import UniformityAlignment
from training.terms.views import Views

TERMS: dict[str, type] = {
    "softmax": Softmax,
    "sigmoid": Sigmoid,
    "infoloob": Infoloob,
    "cloob": Cloob,
    "cyclip": Cyclip,
    "filip": Filip,
    "caption": Caption,
    "uniformity_alignment": UniformityAlignment,
    "views": Views,
    "masked_view": MaskedView,
    "feature_distill": FeatureDistill,
    "similarity_distill": SimilarityDistill,
    "label_head": LabelHead,
}
