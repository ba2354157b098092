import io

import numpy as np
import pytest
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from pipeline.images.decoder import Refused
from training.reader.images import ImageSettings, eval_image, train_image

RNG = np.random.default_rng(0)
WHITE = 255


def _encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _photo(width: int, height: int) -> Image.Image:
    """Smooth colours, as JPEG likes them."""
    coarse = Image.fromarray(RNG.integers(0, 255, (6, 6, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("resize", ["shortest", "squash", "pad"])
@pytest.mark.parametrize("shape", [(64, 64), (200, 131), (97, 333), (33, 20), (640, 480), (64, 65), (500, 64)])
def test_evaluation_pixels_equal_open_clips_bit_by_bit(resize: str, shape: tuple[int, int]) -> None:
    image = _photo(*shape)
    mode = {"pad": "longest"}.get(resize, resize)
    theirs = image_transform_v2(
        PreprocessCfg(size=64, resize_mode=mode, mean=(0, 0, 0), std=(1, 1, 1), fill_color=WHITE), is_train=False
    )
    expected = (theirs(image).numpy() * 255).round().astype(np.uint8)
    assert np.array_equal(eval_image(_encoded(image), ImageSettings(resize=resize), 64), expected)


def _flat(data: bytes, **settings) -> list[float]:
    return eval_image(data, ImageSettings(resize="squash", **settings), 8).reshape(3, -1).mean(axis=1).round().tolist()


def test_transparency_is_laid_on_the_background_in_every_mode() -> None:
    clear = Image.new("RGBA", (9, 9), (0, 0, 0, 0))
    assert _flat(_encoded(clear)) == [WHITE] * 3
    assert _flat(_encoded(clear), background="black") == [0] * 3
    assert _flat(_encoded(Image.new("RGBA", (9, 9), (255, 0, 0, 51)))) == [255, 204, 204]
    assert _flat(_encoded(Image.new("LA", (9, 9), (0, 0)))) == [WHITE] * 3
    palette = Image.new("P", (9, 9), 1)
    palette.putpalette([9, 9, 9, 0, 0, 0])
    assert _flat(_encoded(palette, transparency=1)) == [WHITE] * 3
    assert _flat(_encoded(palette)) == [0] * 3
    assert _flat(_encoded(Image.new("RGB", (9, 9), (1, 2, 3)), transparency=(1, 2, 3))) == [WHITE] * 3
    assert _flat(_encoded(clear, "WEBP", lossless=True)) == [WHITE] * 3


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    grey = Image.fromarray(np.full((9, 9), 0x8000, dtype=np.uint16))
    assert _flat(_encoded(grey)) == [128] * 3


def test_other_colour_modes_come_out_as_rgb() -> None:
    assert _flat(_encoded(Image.new("1", (9, 9), 1))) == [WHITE] * 3
    assert _flat(_encoded(Image.new("L", (9, 9), 7))) == [7] * 3
    red, green, blue = _flat(_encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))
    assert red > 240 and green < 15 and blue < 15


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_applied(kind: str) -> None:
    left_red = Image.new("RGB", (40, 20), (0, 0, 255))
    left_red.paste((255, 0, 0), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the left side is the top
    data = _encoded(left_red, kind, exif=exif)
    for pixels in (
        eval_image(data, ImageSettings(resize="squash"), 16),
        train_image(data, ImageSettings(resize="squash", crop_scale=(0.98, 1.0)), 16, 0, 0, "u"),
    ):
        assert pixels[0, :5].mean() > 200 and pixels[2, -5:].mean() > 200


@pytest.mark.parametrize("resize", ["shortest", "squash", "pad"])
def test_reading_jpegs_at_reduced_size_changes_little(resize: str) -> None:
    data = _encoded(_photo(1500, 1100), "JPEG", quality=92)
    settings = ImageSettings(resize=resize)
    full, fast = eval_image(data, settings, 64).astype(int), train_image(data, settings, 64, 0, 0, "u").astype(int)
    assert full.shape == fast.shape == (3, 64, 64)
    assert np.abs(full - fast).max() <= 12 and np.abs(full - fast).mean() < 1.5


def test_crops_are_keyed_and_inside_their_range() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (256, 1, 3))
    ramp[:, :, 1] = np.arange(256)[:, None]
    data = _encoded(Image.fromarray(ramp))
    settings = ImageSettings(resize="squash", crop_scale=(0.25, 0.5))
    one = train_image(data, settings, 32, 1, 2, "a")
    assert np.array_equal(one, train_image(data, settings, 32, 1, 2, "a"))
    areas = []
    for uid in range(60):
        pixels = train_image(data, settings, 32, 1, 2, str(uid)).astype(float)
        areas.append(np.ptp(pixels[0]) * np.ptp(pixels[1]) / 256**2)
    assert 0.2 < min(areas) < 0.3 and 0.42 < max(areas) < 0.52
    for other in (
        train_image(data, settings, 32, 1, 3, "a"),
        train_image(data, settings, 32, 2, 2, "a"),
        train_image(data, settings, 32, 1, 2, "b"),
    ):
        assert not np.array_equal(one, other)


def test_flips_mirror_about_half_of_the_images() -> None:
    data = _encoded(_photo(64, 64))
    plain = train_image(data, ImageSettings(), 64, 0, 0, "u")
    flipped = 0
    for uid in range(200):
        pixels = train_image(data, ImageSettings(flip=True), 64, 0, 0, str(uid))
        if np.array_equal(pixels, plain[:, :, ::-1]):
            flipped += 1
        else:
            assert np.array_equal(pixels, plain)
    assert 70 < flipped < 130


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not_decodable"),
        (b"<html>", "not_decodable"),
        (_encoded(_photo(300, 300), "JPEG")[:-3000], "truncated"),
        (_encoded(_photo(300, 300))[:-3000], "truncated"),
        (_encoded(_photo(20, 20), "GIF"), "format"),
        (_encoded(_photo(20, 20), "TIFF"), "format"),
        (_encoded(Image.new("1", (30_000, 30_000))), "pixel_cap"),
    ],
)
def test_unusable_bytes_have_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Refused, match=f"^{reason}$"):
        eval_image(data, ImageSettings(), 32)
    with pytest.raises(Refused, match=f"^{reason}$"):
        train_image(data, ImageSettings(), 32, 0, 0, "u")


def test_every_cut_and_flip_of_an_image_is_pixels_or_a_reason() -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        good = _encoded(_photo(40, 30), kind)
        for cut in range(0, len(good), 7):
            _try(good[:cut])
        for at in range(0, len(good), 5):
            _try(good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :])


def _try(data: bytes) -> None:
    try:
        assert eval_image(data, ImageSettings(), 16).shape == (3, 16, 16)
        assert train_image(data, ImageSettings(crop_scale=(0.5, 1.0)), 16, 0, 0, "u").shape == (3, 16, 16)
    except Refused:
        pass


@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (4000, 1), (9, 1000)])
@pytest.mark.parametrize("resize", ["shortest", "squash", "pad"])
def test_extreme_shapes_fit(shape: tuple[int, int], resize: str) -> None:
    data = _encoded(Image.new("RGB", shape, (1, 2, 3)))
    for crop in (1.0, 0.1):
        settings = ImageSettings(resize=resize, crop_scale=(crop, 1.0))
        assert train_image(data, settings, 24, 0, 0, "u").shape == eval_image(data, settings, 24).shape == (3, 24, 24)
