"""How further views of a picture are augmented: SimCLR's way (Chen et al., 2020), by keyed draws."""

import math
from collections.abc import Callable
from typing import Annotated

from PIL import Image, ImageEnhance, ImageFilter
from pydantic import Field, model_validator

from pipeline.settings import Settings

Share = Annotated[float, Field(ge=0, le=1)]
Draw = Callable[[str], float]


class ViewSettings(Settings):
    """Each further view is cropped, mirrored, jittered, greyed and blurred by draws keyed by (seed, epoch, uid, view).

    `crop_scale`, `flip`: as of `train.image`. `jitter`: share of the views whose brightness, contrast and saturation
    are multiplied by up to 1 -/+ as much as said, in drawn order, and whose hue is turned by up to `hue` of the circle.
    `grey`, `blur`: shares of the views; blur is Gaussian, of 0.1 to 2 pixels at 224, in proportion at other sizes.
    """

    crop_scale: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.08, 1.0)
    flip: bool = True
    jitter: Share = 0.8
    brightness: Share = 0.4
    contrast: Share = 0.4
    saturation: Share = 0.4
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    grey: Share = 0.2
    blur: Share = 0.5

    @model_validator(mode="after")
    def _ordered(self) -> "ViewSettings":
        if self.crop_scale[0] > self.crop_scale[1]:
            raise ValueError(f"crop_scale {list(self.crop_scale)} is not [smallest, largest]")
        return self


def recoloured(image: Image.Image, settings: ViewSettings, draw: Draw) -> Image.Image:
    """An RGB picture with all but crop and flip applied; `draw` gives a uniform number in [0, 1) for a name."""
    if draw("jitter") < settings.jitter:
        changes = {"brightness": _brighter, "contrast": _harder, "saturation": _richer, "hue": _turned}
        for name in sorted(changes, key=lambda name: (draw(f"{name}_turn"), name)):
            most = getattr(settings, name)
            image = changes[name](image, most * (2 * draw(name) - 1)) if most else image
    if draw("grey") < settings.grey:
        image = image.convert("L").convert("RGB")
    if draw("blur") < settings.blur:
        radius = (0.1 + 1.9 * draw("blur_radius")) * math.sqrt(image.width * image.height) / 224
        image = image.filter(ImageFilter.GaussianBlur(radius))
    return image


def _brighter(image: Image.Image, by: float) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1 + by)


def _harder(image: Image.Image, by: float) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(1 + by)


def _richer(image: Image.Image, by: float) -> Image.Image:
    return ImageEnhance.Color(image).enhance(1 + by)


def _turned(image: Image.Image, by: float) -> Image.Image:
    """The hue by a share of the circle."""
    hue, saturation, value = image.convert("HSV").split()
    turn = round(by * 256)
    return Image.merge("HSV", (hue.point([(at + turn) % 256 for at in range(256)]), saturation, value)).convert("RGB")
