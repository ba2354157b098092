"""Image bytes to pixels: decoded (pipeline/images), augmented by keyed draws, resized; uint8 CHW out.

Evaluation pixels equal those of open_clip's evaluation transform on opaque images, bit by bit.
"""

import math
from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from pipeline.contract.pairs import EXTS
from pipeline.draws import keyed_uniform
from pipeline.images.background import BACKGROUNDS
from pipeline.images.decoder import MAX_PIXELS, PILLOW_MAX_PIXELS, Picture
from pipeline.settings import Settings
from training.reader.views import View, ViewSettings, drawn_changes, recoloured

_ASPECT = (math.log(3 / 4), math.log(4 / 3))  # of keyed crops; the range of Inception's (Szegedy et al. 2015)
_MARGIN = 2.0  # shortcuts leave at least twice the wanted pixels: the bicubic filter still does the last halving

_LONG = 8  # aspect ratio from which the middle of a strip is cut out before it is scaled

Unit = Annotated[float, Field(gt=0, le=1)]
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


class ImageSettings(Settings):
    """How an image becomes a square of the model's size.

    `resize`: `shortest` scales the short side and cuts the middle out, `pad` scales the long side and fills up with the
    background, `squash` ignores the aspect ratio. `crop_scale`: range of the area fraction of a random crop in training
    (Szegedy et al. 2015); (1, 1) crops nothing. `flip`: mirror half of the images in training.
    """

    resize: Literal["shortest", "pad", "squash"] = "shortest"
    crop_scale: tuple[Unit, Unit] = (1.0, 1.0)
    flip: bool = False
    background: Literal["white", "black"] = "white"
    max_pixels: Annotated[int, Field(gt=0, le=PILLOW_MAX_PIXELS)] = MAX_PIXELS
    views: ViewSettings = Field(ViewSettings(), description="of the further views that a term asks for")

    @model_validator(mode="after")
    def _ordered(self) -> "ImageSettings":
        if self.crop_scale[0] > self.crop_scale[1]:
            raise ValueError(f"crop_scale {list(self.crop_scale)} is not [smallest, largest]")
        return self


def eval_image(data: bytes, settings: ImageSettings, size: int) -> np.ndarray:
    """uint8 [3, size, size] without augmentation. Refused with a reason when the bytes are no usable image."""
    image = Picture(data, EXTS, settings.max_pixels).rgb(settings.background)
    return _pixels(_fitted(image, (0.0, 0.0, *image.size), settings, size))


def train_image(
    data: bytes, settings: ImageSettings, size: int, seed: int, epoch: int, uid: str, view: int = 0
) -> np.ndarray:
    """uint8 [3, size, size], augmented by draws keyed by (seed, epoch, uid, view). Refused as `eval_image`.

    View 0 is what the model sees of a pair; further ones are cropped, mirrored and coloured as `settings.views` says.

    Large images are first reduced by whole factors (JPEGs while they are decoded) to no less than twice their size.
    """

    picture = Picture(data, EXTS, settings.max_pixels)
    return _viewed(picture, drawn_view(picture.size, settings, seed, epoch, uid, view), settings, size)


def stored_view(data: bytes, view: View, settings: ImageSettings, size: int) -> np.ndarray:
    """uint8 [3, size, size]: the very view, and of `settings` what says nothing of views. Refused as `eval_image`."""
    return _viewed(Picture(data, EXTS, settings.max_pixels), view, settings, size)


def drawn_view(
    picture: tuple[int, int], settings: ImageSettings, seed: int, epoch: int, uid: str, view: int = 0
) -> View:
    """The view that `train_image` shows of a picture of this width and height."""

    def draw(name: str) -> float:
        return keyed_uniform(seed, name, epoch, uid, *([view] if view else []))

    if view:
        settings = settings.model_copy(update=settings.views.model_dump(include={"crop_scale", "flip"}))
    box = _crop(*picture, settings, draw) if settings.crop_scale[0] < 1 else None
    changes = drawn_changes(settings.views, draw) if view else ()
    return View(box, settings.flip and draw("flip") < 0.5, changes)


def _viewed(picture: Picture, view: View, settings: ImageSettings, size: int) -> np.ndarray:
    width, height = picture.size
    box = view.box or (0.0, 0.0, float(width), float(height))
    image = picture.rgb(settings.background, spare=min(box[2] - box[0], box[3] - box[1]) / (size * _MARGIN))
    sx, sy = image.width / width, image.height / height
    box = (box[0] * sx, box[1] * sy, box[2] * sx, box[3] * sy)
    stretch = view.box is not None and settings.resize == "shortest"
    pixels = _pixels(recoloured(_fitted(image, box, settings, size, stretch=stretch, gap=_MARGIN), view.changes))
    return np.ascontiguousarray(pixels[:, :, ::-1]) if view.flip else pixels


def _crop(width: int, height: int, settings: ImageSettings, draw: Callable[[str], float]) -> Box:
    """A keyed random part of the image; its aspect ratio varies about 1 (`shortest`) or about the image's own."""
    smallest, largest = settings.crop_scale
    area = smallest + (largest - smallest) * draw("crop_area")
    ratio = math.exp(_ASPECT[0] + (_ASPECT[1] - _ASPECT[0]) * draw("crop_aspect"))
    if settings.resize == "shortest":
        w, h = math.sqrt(width * height * area * ratio), math.sqrt(width * height * area / ratio)
    else:
        w, h = width * math.sqrt(area * ratio), height * math.sqrt(area / ratio)
    w, h = min(max(w, 1.0), width), min(max(h, 1.0), height)
    left, top = draw("crop_left") * (width - w), draw("crop_top") * (height - h)
    return left, top, left + w, top + h


def _fitted(
    image: Image.Image, box: Box, settings: ImageSettings, size: int, *, stretch: bool = False, gap: float | None = None
) -> Image.Image:
    """The part of `image` in `box` as a size x size square. Rounding follows open_clip's evaluation transform.

    `gap`: pixels far above the wanted size are averaged in whole blocks first, down to `gap` times the wanted size.
    """
    left, top = max(box[0], 0.0), max(box[1], 0.0)
    right, bottom = min(max(box[2], left + 1e-3), image.width), min(max(box[3], top + 1e-3), image.height)
    box, width, height = (left, top, right, bottom), right - left, bottom - top
    how = Image.Resampling.BICUBIC
    if stretch or settings.resize == "squash":
        return image.resize((size, size), how, reducing_gap=gap, box=box)
    if settings.resize == "pad":
        ratio = max(width, height) / size
        inner = image.resize(
            (max(1, round(width / ratio)), max(1, round(height / ratio))), how, reducing_gap=gap, box=box
        )
        square = Image.new("RGB", (size, size), BACKGROUNDS[settings.background])
        square.paste(inner, ((size - inner.width) // 2, (size - inner.height) // 2))
        return square
    short, long = min(width, height), max(width, height)
    if long > _LONG * short:  # never make a strip thousands of pixels long to throw most of it away
        x, y = left + (width - short) / 2, top + (height - short) / 2
        return image.resize((size, size), how, reducing_gap=gap, box=(x, y, x + short, y + short))
    long_size = int(size * long / short)
    shape = (size, long_size) if width <= height else (long_size, size)
    x, y = round((shape[0] - size) / 2), round((shape[1] - size) / 2)
    return image.resize(shape, how, reducing_gap=gap, box=box).crop((x, y, x + size, y + size))


def _pixels(image: Image.Image) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
