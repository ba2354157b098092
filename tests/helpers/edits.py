"""Made-up photographs and drawings, what is done to pictures on their way through the web, and siblings."""

import io
import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

Edit = Callable[[Image.Image], Image.Image]


def photo(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Noise of the spectrum that photographs have (1/f), in related colours, and two things in it."""
    rng, (wide, high) = np.random.default_rng(seed), size
    frequency = np.hypot(np.fft.fftfreq(high)[:, None], np.fft.fftfreq(wide)[None, :])
    falls = 1 / np.maximum(frequency, 1 / wide) ** rng.uniform(0.9, 1.2)
    fields = [np.fft.ifft2(falls * np.exp(2j * np.pi * rng.random((high, wide)))).real for _ in range(3)]
    mixed = [0.8 * fields[0] + 0.35 * field for field in fields]
    levels = np.stack([(each - each.mean()) / each.std() for each in mixed], axis=-1) * rng.uniform(35, 55)
    image = Image.fromarray((levels + rng.uniform(100, 150)).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(2):
        x, y, r = int(rng.integers(wide)), int(rng.integers(high)), int(rng.integers(wide // 20, wide // 4))
        draw.ellipse((x - r, y - r // 2, x + r, y + r // 2), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return image.filter(ImageFilter.GaussianBlur(0.7))


def drawing(seed: int, side: int = 240) -> Image.Image:
    """Some flat shapes on white."""
    rng = np.random.default_rng(1000 + seed)
    image = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(4, 8))):
        corners = [(int(x), int(y)) for x, y in rng.integers(side // 10, side - side // 10, (4, 2))]
        colour = tuple(rng.integers(0, 256, 3).tolist())
        sort = int(rng.integers(3))
        if sort == 0:
            draw.polygon(corners, fill=colour, outline="black")
        elif sort == 1:
            draw.line(corners, fill=colour, width=int(rng.integers(3, 9)))
        else:
            (left, right), (top, bottom) = (sorted(each) for each in zip(*corners[:2], strict=True))
            draw.ellipse((left, top, right + 9, bottom + 9), fill=colour, outline="black", width=3)
    return image


def star(rays: int, side: int = 160, inner: float = 0.35) -> Image.Image:
    image = Image.new("RGB", (side, side), "white")
    at = [
        (side / 2 + side * r * math.sin(a), side / 2 - side * r * math.cos(a))
        for k in range(2 * rays)
        for r, a in [(0.45 if k % 2 == 0 else 0.45 * inner, math.pi * k / rays)]
    ]
    ImageDraw.Draw(image).polygon(at, fill=(200, 30, 30), outline="black")
    return image


def text(words: str, size: tuple[int, int] = (160, 120), ground: str = "white", font: int = 60) -> Image.Image:
    image = Image.new("RGB", size, ground)
    ImageDraw.Draw(image).text((size[0] // 8, size[1] // 5), words, fill="black", font_size=font)
    return image


def jpeg(quality: int) -> Edit:
    def edited(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer).convert("RGB")

    return edited


def cropped(left: float, top: float, right: float, bottom: float) -> Edit:
    """Shares of the sides that go."""
    return lambda image: image.crop(
        (
            round(left * image.width),
            round(top * image.height),
            round((1 - right) * image.width),
            round((1 - bottom) * image.height),
        )
    )


def framed(share: float, colour: str) -> Edit:
    def edited(image: Image.Image) -> Image.Image:
        x, y = round(image.width * share), round(image.height * share)
        frame = Image.new("RGB", (image.width + 2 * x, image.height + 2 * y), colour)
        frame.paste(image, (x, y))
        return frame

    return edited


def resized(factor: float) -> Edit:
    return lambda image: image.resize(
        (round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS
    )


def then(*edits: Edit) -> Edit:
    def edited(image: Image.Image) -> Image.Image:
        for each in edits:
            image = each(image)
        return image

    return edited


EDITS: dict[str, Edit] = {
    "JPEG 85": jpeg(85),
    "JPEG 30": jpeg(30),
    "half the size": resized(0.5),
    "1.3 times the size, JPEG 70": then(resized(1.3), jpeg(70)),
    "96 x 96": lambda image: image.resize((96, 96), Image.Resampling.BICUBIC),
    "2% off each side": cropped(0.02, 0.02, 0.02, 0.02),
    "5% off each side": cropped(0.05, 0.05, 0.05, 0.05),
    "5% off each side, half the size, JPEG 60": then(cropped(0.05, 0.05, 0.05, 0.05), resized(0.5), jpeg(60)),
    "5% off the left": cropped(0.05, 0, 0, 0),
    "5% off the left and the top": cropped(0.05, 0.05, 0, 0),
    "8% off each side": cropped(0.08, 0.08, 0.08, 0.08),
    "10% off the left": cropped(0.1, 0, 0, 0),
    "10% off each side": cropped(0.1, 0.1, 0.1, 0.1),
    "a frame of 3%": framed(0.03, "black"),
    "a frame of 6%": framed(0.06, "white"),
    "20% darker": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "15% brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "contrast 0.8": lambda image: ImageEnhance.Contrast(image).enhance(0.8),
    "contrast 1.2": lambda image: ImageEnhance.Contrast(image).enhance(1.2),
    "saturation 0.7": lambda image: ImageEnhance.Color(image).enhance(0.7),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(1.5)),
    "sharpened": lambda image: image.filter(ImageFilter.UnsharpMask(2, 100, 0)),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "a stamp in a corner": lambda image: _stamped(image),
    "turned by one degree": lambda image: image.rotate(1, Image.Resampling.BICUBIC, fillcolor="white"),
}


def _stamped(image: Image.Image) -> Image.Image:
    image = image.copy()
    ImageDraw.Draw(image).text(
        (image.width * 0.55, image.height * 0.85), "made.up", fill="grey", font_size=image.height // 10
    )
    return image
