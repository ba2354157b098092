"""The caption policies a recipe can name. A new one is a file here, a line below and a test."""

from training.reader.captions.first import First
from training.reader.captions.first_then import FirstThen
from training.reader.captions.one_synthetic import OneSynthetic
from training.reader.captions.uniform import Uniform
from training.reader.captions.weighted import Weighted

CAPTION_POLICIES = {
    "first": First,
    "uniform": Uniform,
    "weighted": Weighted,
    "one_synthetic": OneSynthetic,
    "first_then": FirstThen,
}
