"""The figures of a picture, against their definitions in plain numpy."""

import math
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from curation.images.phash import hamming, phashes
from curation.images.pixels import look, measured, pixel_hash, reduced
from tests.helpers.pairs import grained, picture


def figures(*images: Image.Image) -> list[dict]:
    columns = measured([look(image) for image in images])
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def test_a_picture_below_six_times_the_square_is_looked_at_whole():
    small, box = reduced(picture(0, (191, 120)))
    assert small.size == (191, 120) and box == (0, 0, 191, 120)


@pytest.mark.parametrize("size", [(640, 480), (1024, 768), (1023, 769), (200, 3000), (193, 193), (5000, 40)])
def test_what_is_reduced_first_is_nearly_what_all_pixels_give(size):
    image = grained(1, size)
    seen = look(image)
    whole = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(seen.grey_RC.astype(int) - whole).max() <= 3
    exact = np.asarray(image.resize((32, 32), Image.Resampling.HAMMING)).astype(int)
    assert np.abs(seen.colours_RC3.astype(int) - exact).max() <= 3
    exact = np.asarray(image.resize((8, 8), Image.Resampling.HAMMING)).astype(int)
    apart = np.abs(np.frombuffer(seen.tiny_rgb, np.uint8).reshape(8, 8, 3).astype(int) - exact)
    assert apart.mean() <= 1.5 and apart.max() <= 10
    assert int(hamming(phashes(seen.grey_RC[None]), phashes(whole[None].astype(np.uint8)))[0]) <= 2


def test_one_level_of_one_pixel_is_another_pixel_hash_and_so_is_another_shape():
    levels = np.asarray(grained(2, (400, 300))).copy()
    before = pixel_hash(Image.fromarray(levels))
    assert before == pixel_hash(Image.fromarray(levels.copy()))
    levels[299, 399, 2] ^= 1
    assert pixel_hash(Image.fromarray(levels)) != before
    flat = np.zeros((20, 30, 3), np.uint8)
    assert pixel_hash(Image.fromarray(flat), (60, 40)) != pixel_hash(Image.fromarray(flat), (59, 40))
    assert pixel_hash(Image.fromarray(flat)) != pixel_hash(Image.fromarray(flat.reshape(30, 20, 3)))


def test_figures_are_those_of_their_definitions():
    for image in (picture(3), grained(4, (700, 500)), Image.new("RGB", (300, 200), (9, 9, 9)), picture(5, (40, 31))):
        seen, found = look(image), figures(image)[0]
        assert found["grey"] == bytes(int(level) for row in seen.grey_RC for level in row)
        colours = [tuple(int(level) >> 4 for level in colour) for colour in seen.colours_RC3.reshape(-1, 3)]
        entropy = -sum(n / 1024 * math.log2(n / 1024) for n in Counter(colours).values())
        assert found["colour_entropy"] == pytest.approx(entropy, abs=1e-9)
        square = seen.colours_RC3.astype(int)
        across = [abs(square[r, c] - square[r, c + 1]).max() <= 2 for r in range(32) for c in range(31)]
        down = [abs(square[r, c] - square[r + 1, c]).max() <= 2 for r in range(31) for c in range(32)]
        assert found["flatness"] == pytest.approx((np.mean(across) + np.mean(down)) / 2, abs=1e-9)
        assert found["contrast"] == pytest.approx(seen.grey_RC.astype(float).std(), abs=1e-9)
        assert (found["width"], found["height"]) == image.size


def test_a_drawing_is_flat_and_a_photograph_is_not():
    drawing = Image.new("RGB", (600, 400), "white")
    drawing.paste((200, 30, 30), (100, 100, 300, 300))
    one, other = figures(drawing, grained(6, (600, 400)))
    assert one["flatness"] > 0.9 > 0.1 > other["flatness"] and one["colour_entropy"] < 1 < 5 < other["colour_entropy"]


def test_those_measured_beside_it_change_no_figure():
    images = [picture(seed) for seed in range(7)]
    assert [figures(image)[0] for image in images] == figures(*images)
    assert measured([]) == {}
