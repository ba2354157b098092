"""The plans a recipe can name. A new one is a file here, a line below and a test."""

from training.plan.presets.clipa import Clipa
from training.plan.presets.flip import Flip
from training.plan.presets.lit import Lit

PRESETS = {
    "clipa": Clipa,
    "flip": Flip,
    "lit": Lit,
}
