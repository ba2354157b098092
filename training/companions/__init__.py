"""What can go along with a run. A new one is a file here, a line below and a test; what it does is in `running/`."""

from training.companions.ema import Ema
from training.companions.momentum import Momentum
from training.companions.stored import Stored
from training.companions.teacher import Teacher

COMPANIONS = {
    "ema": Ema,
    "momentum": Momentum,
    "stored": Stored,
    "teacher": Teacher,
}
