"""A picture laid over what was made of it differs nowhere, over another one it does, whoever else is in the batch."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage, optimize

from curation.images.pixels import look
from curation.methods.pictures.registration import Apart, Looks, apart
from tests.helpers import edits


def looks(*images: Image.Image) -> Looks:
    seen = [look(image) for image in images]
    tiny = [np.frombuffer(each.tiny_rgb, np.uint8).reshape(8, 8, 3) for each in seen]
    ratio = np.array([each.width / each.height for each in seen])
    return Looks(np.stack([each.grey_RC for each in seen]), np.stack(tiny), ratio)


def rows(found: Apart) -> list[tuple[float, float]]:
    return list(zip(found.grey.tolist(), found.colour.tolist(), strict=True))


MADE = [edits.photo(seed) if seed % 2 else edits.drawing(seed) for seed in range(12)]


def test_a_picture_and_itself_are_not_apart():
    found = apart(looks(*MADE), looks(*MADE))
    assert found.grey.max() < 1e-6 and found.colour.max() < 1e-6


@pytest.mark.parametrize("name", ["JPEG 85", "half the size", "5% off each side", "10% off the left", "a frame of 3%",
                                  "contrast 0.8", "saturation 0.7", "grey"])  # fmt: skip
def test_what_was_made_of_a_picture_is_near_it_either_way_round(name):
    edited = [edits.EDITS[name](image) for image in MADE]
    for found in (apart(looks(*MADE), looks(*edited)), apart(looks(*edited), looks(*MADE))):
        near = 11 if "frame" in name else len(MADE)  # of one, with lines as thick as the frame, it is 0.26
        assert (found.grey < 0.25).sum() >= near and found.grey.max() < 0.3 and found.colour.max() < 40


def test_other_pictures_are_apart():
    found = apart(looks(*MADE), looks(*MADE[1:], MADE[0]))
    assert (found.grey > 0.5).all()


def test_each_is_held_against_its_own_whatever_stands_beside():
    edited = [list(edits.EDITS.values())[n](image) for n, image in enumerate(MADE)]
    one, other = looks(*MADE * 30), looks(*edited * 30)  # more than one batch
    whole = rows(apart(one, other))
    assert whole == rows(apart(looks(*MADE), looks(*edited))) * 30
    for at in range(len(MADE)):
        assert rows(apart(looks(MADE[at]), looks(edited[at]))) == whole[at : at + 1]
    assert rows(apart(looks(*MADE).take(np.arange(0)), looks(*MADE).take(np.arange(0)))) == []


@pytest.mark.parametrize("seed", range(6))
def test_the_place_that_differs_most_is_the_one_a_slow_search_finds(seed):
    """Nelder and Mead over scale and shift of each axis, from the known crop; splines in place of kernels."""
    image = edits.photo(seed)
    edited = edits.cropped(0.04, 0.04, 0.04, 0.04)(image)
    one, other = looks(image), looks(edited)
    weight = np.array([1, 2, 1]) / 4
    left, right = (
        ndimage.correlate1d(ndimage.correlate1d(each.grey[0].astype(float), weight, 0), weight, 1)
        for each in (one, other)
    )
    place = np.arange(32) - 15.5
    inner = slice(2, 30)

    def difference(warp):
        down, across = np.meshgrid(warp[2] * place + 15.5 + warp[3], warp[0] * place + 15.5 + warp[1], indexing="ij")
        laid = ndimage.map_coordinates(left, [down, across], order=3, mode="nearest")[inner, inner]
        wanted = right[inner, inner]
        gain = np.cov(laid.ravel(), wanted.ravel())[0, 1] / laid.var(ddof=1)
        return wanted - wanted.mean() - gain * (laid - laid.mean())

    best = optimize.minimize(lambda w: (difference(w) ** 2).sum(), [0.92, 0, 0.92, 0], method="Nelder-Mead")
    assert abs(best.x[0] - 0.92) < 0.02 and abs(best.x[2] - 0.92) < 0.02
    worst = np.abs(difference(best.x)).max() / (right[inner, inner].std() + 1) / (1 + 20 * 0.06)
    assert apart(one, other).grey[0] == pytest.approx(worst, abs=0.04)


def test_bars_are_not_stretched_into_one_another_but_a_squashed_file_is_known():
    def bar(height: int) -> Image.Image:
        image = Image.new("RGB", (200, 200), "white")
        image.paste("black", (20, 100 - height, 180, 100 + height))
        return image

    assert apart(looks(bar(60)), looks(bar(70))).grey[0] == np.inf
    squashed = edits.photo(3).resize((90, 90))
    assert apart(looks(edits.photo(3)), looks(squashed)).grey[0] < 0.1
    assert apart(looks(edits.photo(3)), looks(edits.cropped(0.05, 0.05, 0.05, 0.05)(edits.photo(3)))).grey[0] < 0.25
