"""The mean of an area, however little of a JPEG is decoded, against means computed in plain numpy."""

import numpy as np
import pytest
from PIL import Image

from curation.images.resize import SizeSettings, encoded, resized
from pipeline.images.decoder import Picture
from tests.helpers import edits, pairs
from tests.helpers.lanes import sampled


def means(levels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Exact means of areas: a pixel counts by how much of it lies in one."""

    def weights(old: int, new: int) -> np.ndarray:
        edges = np.arange(new + 1) * old / new
        low, high = np.maximum(edges[:-1, None], np.arange(old)), np.minimum(edges[1:, None], np.arange(old) + 1)
        share = np.clip(high - low, 0, None)
        return share / share.sum(axis=1, keepdims=True)

    across, down = weights(levels.shape[1], size[0]), weights(levels.shape[0], size[1])
    return np.einsum("ih,hwc,jw->ijc", down, levels.astype(float), across, optimize=True)


# Size -> how far levels may be from exact means: on average and one in 100, photographs and then drawings.
WHOLE, HALVED, BARELY = ((0.7, 3), (0.4, 9)), ((1.4, 6), (0.7, 12)), ((2.6, 10), (1.1, 27))
APART = {
    (512, 384): HALVED, (1024, 768): HALVED, (1000, 750): HALVED, (1023, 769): HALVED, (300, 999): HALVED,
    (1280, 960): HALVED, (640, 480): BARELY, (720, 540): BARELY, (639, 480): WHOLE, (520, 390): WHOLE,
}  # fmt: skip


@pytest.mark.parametrize("size", APART)
@pytest.mark.parametrize("form", sampled(["JPEG", "PNG"], 0))
@pytest.mark.parametrize("kind", ["photograph", "drawing"])
def test_box_is_the_mean_of_an_area(size, form, kind):
    drawn = edits.drawing(1, max(size)).crop((0, 0, *size))
    body = pairs.encoded(edits.photo(1, size) if kind == "photograph" else drawn, form, quality=90)
    image = resized(Picture(body), SizeSettings(max_side=256, filter="box"))
    assert max(image.size) == 256
    apart = np.abs(np.asarray(image) - means(np.asarray(Picture(body).rgb()), image.size))
    mean, most = (APART[size] if form == "JPEG" else WHOLE)[kind == "drawing"]
    assert apart.mean() < mean and np.percentile(apart, 99) < most


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_jpeg_decoded_smaller_lies_where_all_its_pixels_say(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    body = pairs.encoded(edits.photo(2, (1021, 765)), "JPEG", quality=92, exif=exif.tobytes())
    image = resized(Picture(body), SizeSettings(max_side=200, filter="box"))
    apart = np.abs(np.asarray(image) - means(np.asarray(Picture(body).rgb()), image.size))
    assert apart.mean() < 1.2


@pytest.mark.parametrize("form", ["jpg", "png", "webp"])
def test_same_picture_same_bytes(form):
    body, settings = pairs.encoded(edits.photo(3, (640, 480)), "JPEG"), SizeSettings(min_side=90, format=form)
    assert len({encoded(resized(Picture(body), settings), settings) for _ in range(3)}) == 1
