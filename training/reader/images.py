"""Image bytes to pixels: decode safely, augment by keyed draws, resize; uint8 CHW out.

Only JPEG, PNG and WebP decoders are ever run, and only on images under the pixel cap. Transparency is laid on the
background, EXIF orientation is applied, 16-bit greys are scaled (Pillow alone would clip them to white).
Evaluation pixels equal those of open_clip's evaluation transform on opaque images, bit by bit.
"""

import io
import math
import struct
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from pipeline.keyed import keyed_uniform
from pipeline.settings import Settings

FORMATS = ("JPEG", "PNG", "WEBP")
_BACKGROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0)}
_ASPECT = (math.log(3 / 4), math.log(4 / 3))  # of keyed crops; the range of Inception's (Szegedy et al. 2015)
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
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
    max_pixels: Annotated[int, Field(gt=0, le=178_956_970)] = 89_478_485

    @model_validator(mode="after")
    def _ordered(self) -> "ImageSettings":
        if self.crop_scale[0] > self.crop_scale[1]:
            raise ValueError(f"crop_scale {list(self.crop_scale)} is not [smallest, largest]")
        return self


def eval_image(data: bytes, settings: ImageSettings, size: int) -> np.ndarray:
    """uint8 [3, size, size] without augmentation. ValueError with a short reason when the bytes are no usable image."""
    picture = _opened(data, settings.max_pixels)
    image = _rgb(picture, settings.background)
    return _pixels(_fitted(image, (0.0, 0.0, *image.size), settings, size))


def train_image(data: bytes, settings: ImageSettings, size: int, seed: int, epoch: int, uid: str) -> np.ndarray:
    """uint8 [3, size, size], augmented by draws keyed by (seed, epoch, uid). ValueError as `eval_image`.

    Large images are first reduced by whole factors (JPEGs while they are decoded) to no less than twice their size.
    """

    def draw(name: str) -> float:
        return keyed_uniform(seed, name, epoch, uid)

    picture = _opened(data, settings.max_pixels)
    width, height = picture.size if _orientation(picture) < 5 else picture.size[::-1]
    cropped = settings.crop_scale[0] < 1
    box = _crop(width, height, settings, draw) if cropped else (0.0, 0.0, float(width), float(height))
    _draft(picture, box, size)
    image = _rgb(picture, settings.background)
    sx, sy = image.width / width, image.height / height
    box = (box[0] * sx, box[1] * sy, box[2] * sx, box[3] * sy)
    stretch = cropped and settings.resize == "shortest"
    pixels = _pixels(_fitted(image, box, settings, size, stretch=stretch, gap=_MARGIN))
    return np.ascontiguousarray(pixels[:, :, ::-1]) if settings.flip and draw("flip") < 0.5 else pixels


def _opened(data: bytes, max_pixels: int) -> Image.Image:
    """The image with its header read and nothing decoded."""
    file = io.BytesIO(data)
    try:
        picture = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError:
        raise ValueError("too_many_pixels") from None
    except Exception:  # Pillow's parsers raise anything from SyntaxError to struct.error on hostile bytes
        raise ValueError("not_an_image") from None
    if picture.width * picture.height > max_pixels:
        raise ValueError("too_many_pixels")
    return picture


def _orientation(picture: Image.Image) -> int:
    """EXIF orientation 1 to 8; 1 when absent or unreadable. Decodes a PNG, whose EXIF chunk may follow its pixels."""
    if picture.format == "PNG":
        _loaded(picture)
    try:
        turned = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # a broken EXIF block does not make the picture unusable
        return 1
    return turned if turned in _TURNS else 1


def _loaded(picture: Image.Image) -> None:
    try:
        picture.load()
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error):
        raise ValueError("truncated_or_damaged") from None
    except (MemoryError, Image.DecompressionBombError):
        raise ValueError("too_many_pixels") from None


def _draft(picture: Image.Image, box: Box, size: int) -> None:
    """Asks the JPEG decoder for fewer pixels when the part in `box` has far more than `size` needs."""
    if picture.format != "JPEG":
        return
    spare = min(box[2] - box[0], box[3] - box[1]) / (size * _MARGIN)
    if spare >= 2:
        picture.draft(None, (max(1, int(picture.width / spare)), max(1, int(picture.height / spare))))


def _rgb(picture: Image.Image, background: str) -> Image.Image:
    """Decoded, upright, opaque RGB."""
    _loaded(picture)
    turned = _orientation(picture)
    if picture.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion clips everything above 255 to white
        scaled = np.clip(np.asarray(picture).astype(np.int64), 0, 65535) >> 8
        image = Image.fromarray(scaled.astype(np.uint8)).convert("RGB")
    elif picture.has_transparency_data:
        layer = picture.convert("RGBA")
        image = Image.new("RGB", picture.size, _BACKGROUNDS[background])
        image.paste(layer, mask=layer.getchannel("A"))
    else:
        image = picture.convert("RGB")
    return image.transpose(_TURNS[turned]) if turned in _TURNS else image


def _crop(width: int, height: int, settings: ImageSettings, draw) -> Box:
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
        square = Image.new("RGB", (size, size), _BACKGROUNDS[settings.background])
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
