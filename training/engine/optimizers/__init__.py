"""The optimizers a recipe can name. A new one is a file here, a line below and a test."""

from training.engine.optimizers.adamw import AdamW
from training.engine.optimizers.lamb import Lamb
from training.engine.optimizers.lion import Lion
from training.engine.optimizers.muon import Muon

OPTIMIZERS = {
    "adamw": AdamW,
    "lamb": Lamb,
    "lion": Lion,
    "muon": Muon,
}
