"""How further views of a picture are augmented: SimCLR's way (Chen et al., 2020), by keyed draws."""

import math
from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class View:
    """How one view of a picture is made, in numbers: kept, they give its pixels again whatever draws them by then.

    `box`: (left, top, right, bottom) in pixels of the whole picture, as displayed; None: all of it, where `resize` may
    cut its middle out. `changes`: names of `CHANGES` with how much, in the order in which they are made.
    """

    box: tuple[float, float, float, float] | None = None
    flip: bool = False
    changes: tuple[tuple[str, float], ...] = ()


def drawn_changes(settings: ViewSettings, draw: Draw) -> tuple[tuple[str, float], ...]:
    """`draw` gives a uniform number in [0, 1) for a name."""
    found = []
    if draw("jitter") < settings.jitter:
        for name in sorted(_JITTER, key=lambda name: (draw(f"{name}_turn"), name)):
            if most := getattr(settings, name):
                found.append((name, most * (2 * draw(name) - 1)))
    if draw("grey") < settings.grey:
        found.append(("grey", 1.0))
    if draw("blur") < settings.blur:
        found.append(("blur", 0.1 + 1.9 * draw("blur_radius")))
    return tuple(found)


def recoloured(image: Image.Image, changes: tuple[tuple[str, float], ...]) -> Image.Image:
    """An RGB picture with changes made to it."""
    for name, by in changes:
        image = CHANGES[name](image, by)
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


def _greyed(image: Image.Image, by: float) -> Image.Image:
    return image.convert("L").convert("RGB")


def _blurred(image: Image.Image, by: float) -> Image.Image:
    """By a Gaussian of so many pixels at 224."""
    return image.filter(ImageFilter.GaussianBlur(by * math.sqrt(image.width * image.height) / 224))


_JITTER = {"brightness": _brighter, "contrast": _harder, "saturation": _richer, "hue": _turned}
CHANGES = {**_JITTER, "grey": _greyed, "blur": _blurred}
