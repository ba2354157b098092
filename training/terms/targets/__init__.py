"""What a contrastive core is to aim at. A new kind is a file here and a line below; None is one-hot, the fast way.

Settings are read without torch; `spread` is called once a step by all ranks (`training.terms.cores.targets`).
"""

from training.terms.targets.captions import Captions
from training.terms.targets.labels import Labels
from training.terms.targets.one_hot import OneHot
from training.terms.targets.similarity import Similarity
from training.terms.targets.teacher import Teacher

TARGETS = {
    "one_hot": OneHot,
    "captions": Captions,
    "labels": Labels,
    "teacher": Teacher,
    "similarity": Similarity,
}
