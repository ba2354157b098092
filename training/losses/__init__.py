"""The losses a recipe can name. A new one is a file here, a line below; the gradient tests take it from the table."""

from training.losses.softmax import SoftmaxLoss

LOSSES = {
    "softmax": SoftmaxLoss,
}
