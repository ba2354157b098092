"""The CLIP loss as a textbook writes it, B x B matrix and autograd and all, in float64: what everything must equal."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.reader.batch import Batch


def softmax_loss(image_BD: Tensor, text_BD: Tensor, log_scale: Tensor, smoothing: float = 0.0) -> Tensor:
    scores_BB = log_scale.exp() * image_BD @ text_BD.T
    labels_B = torch.arange(len(scores_BB))
    i2t = F.cross_entropy(scores_BB, labels_B, label_smoothing=smoothing)
    t2i = F.cross_entropy(scores_BB.T, labels_B, label_smoothing=smoothing)
    return (i2t + t2i) / 2


def step_gradients(towers: nn.Module, batch: Batch) -> tuple[float, dict[str, Tensor]]:
    """Loss and every trained parameter's gradient for a whole batch in one process, float64."""
    towers = copy.deepcopy(towers).double()
    valid_N = batch.rows["valid"]
    found = towers({name: batch.rows[name][valid_N] for name in ("image", "tokens")})
    loss = softmax_loss(found["image"].double(), found["text"].double(), towers.log_scale)
    trained = {name: parameter for name, parameter in towers.named_parameters() if parameter.requires_grad}
    return loss.item(), dict(zip(trained, torch.autograd.grad(loss, list(trained.values())), strict=True))
