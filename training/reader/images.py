"""Image bytes to pixels: decode safely, augment by keyed draws, resize; uint8 CHW out."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from pipeline.settings import Settings


class ImageSettings(Settings):
    """How an image becomes a square of the model's size."""

    resize: Literal["shortest", "pad", "squash"] = "shortest"
    crop_scale: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (1.0, 1.0)
    flip: bool = False
    background: Literal["white", "black"] = "white"
    max_pixels: Annotated[int, Field(gt=0)] = 178_956_970


def eval_image(data: bytes, settings: ImageSettings, size: int) -> np.ndarray:
    """uint8 [3, size, size] without augmentation. ValueError with a short reason when the bytes are no usable image."""
    raise NotImplementedError


def train_image(data: bytes, settings: ImageSettings, size: int, seed: int, epoch: int, uid: str) -> np.ndarray:
    """uint8 [3, size, size], augmented by draws keyed by (seed, epoch, uid). ValueError as `eval_image`."""
    raise NotImplementedError
