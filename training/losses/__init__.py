"""The losses a recipe can name. A new one is a file here, a line below and a test."""

from training.losses.softmax import SoftmaxLoss

LOSSES = {
    "softmax": SoftmaxLoss,
}
