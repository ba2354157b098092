"""The schedules a recipe can name. A new one is a file here, a line below and a test."""

from training.step.schedules.constant import Constant
from training.step.schedules.cosine import Cosine
from training.step.schedules.inverse_sqrt import InverseSqrt
from training.step.schedules.wsd import WarmupStableDecay

SCHEDULES = {
    "cosine": Cosine,
    "constant": Constant,
    "wsd": WarmupStableDecay,
    "inverse_sqrt": InverseSqrt,
}
