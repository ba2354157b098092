"""Further views: keyed by (seed, epoch, uid, view), and what the settings say of them; view 0 knows nothing of them."""

import colorsys
import io

import numpy as np
import pytest
from PIL import Image

from training.reader.images import ImageSettings, train_image
from training.reader.views import ViewSettings, drawn_changes, recoloured

STILL = {"crop_scale": (1.0, 1.0), "flip": False, "jitter": 0.0, "grey": 0.0, "blur": 0.0}


def noise():
    made = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(made, "png")
    return made.getvalue()


DATA = noise()


def view(settings=None, number=1, uid="a", epoch=0, seed=1, size=16, **image):
    settings = ImageSettings(views=ViewSettings(**(settings or {})), **image)
    return train_image(DATA, settings, size, seed, epoch, uid, view=number)


def test_a_view_is_a_function_of_seed_epoch_pair_and_view():
    assert np.array_equal(view(), view())
    others = [view(number=2), view(uid="b"), view(epoch=1), view(seed=2)]
    assert all(not np.array_equal(view(), other) for other in others)


def test_the_first_view_is_as_without_settings_of_views():
    assert np.array_equal(view(number=0), view(STILL, number=0))


def test_settings_of_the_first_view_do_not_reach_further_ones():
    plain = {"crop_scale": (1.0, 1.0), "flip": False}
    assert np.array_equal(view(STILL, crop_scale=(0.1, 0.2), flip=True), view(STILL, number=0, **plain))


@pytest.mark.parametrize("name", ["jitter", "grey", "blur"])
def test_each_share_is_that_of_many_views(name):
    still = view(STILL, size=112)  # of 16 pixels a blur in proportion shows nothing
    changed = [not np.array_equal(view(STILL | {name: 0.3}, uid=f"{n:032x}", size=112), still) for n in range(300)]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.09)


def test_flips_are_of_half_the_views_and_mirror_them():
    still = view(STILL)
    flips = [view(STILL | {"flip": True}, uid=f"{n:032x}") for n in range(100)]
    mirrored = [np.array_equal(one, still[:, :, ::-1]) for one in flips]
    assert all(is_mirrored or np.array_equal(one, still) for is_mirrored, one in zip(mirrored, flips, strict=True))
    assert np.mean(mirrored) == pytest.approx(0.5, abs=0.15)


def one_colour(colour, settings, **drawn):
    draws = {"jitter": 0.0, "grey": 0.99, "blur": 0.99} | drawn
    changes = drawn_changes(ViewSettings(**settings), lambda name: draws.get(name, 0.5))
    made = recoloured(Image.new("RGB", (4, 4), colour), changes)
    return np.asarray(made)[0, 0].astype(int)


def test_jitter_is_what_its_names_say():
    only = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    assert one_colour((100, 60, 20), only).tolist() == [100, 60, 20]
    assert one_colour((100, 60, 20), only | {"brightness": 0.4}, brightness=0.0).tolist() == [60, 36, 12]
    grey = round(0.299 * 100 + 0.587 * 60 + 0.114 * 20)
    paler = one_colour((100, 60, 20), only | {"saturation": 0.5}, saturation=0.0)
    assert np.abs(paler - [(100 + grey) / 2, (60 + grey) / 2, (20 + grey) / 2]).max() <= 1
    assert np.abs(one_colour((100, 60, 20), only, grey=0.0) - grey).max() <= 1
    turned = one_colour((200, 40, 40), only | {"hue": 0.25}, hue=1.0)
    assert np.abs(turned - 255 * np.array(colorsys.hsv_to_rgb(0.25, 0.8, 200 / 255))).max() <= 5


def test_blur_and_contrast_spread_and_stretch():
    half = np.zeros((16, 16, 3), dtype=np.uint8)
    half[:, 8:] = 200
    draws = {"jitter": 0.0, "grey": 0.99, "blur": 0.99, "contrast": 0.0}
    changes = drawn_changes(ViewSettings(contrast=0.5, hue=0), lambda name: draws.get(name, 0.5))
    flat = recoloured(Image.fromarray(half), changes)
    assert np.asarray(flat)[:, :, 0].std() == pytest.approx(half[:, :, 0].std() / 2, rel=0.05)
    big = Image.fromarray(half).resize((224, 224), Image.Resampling.NEAREST)
    draws = {"jitter": 0.9, "grey": 0.9, "blur": 0.1, "blur_radius": 1.0}
    soft = recoloured(big, drawn_changes(ViewSettings(), draws.__getitem__))
    edge = np.asarray(soft)[100, :, 0].astype(int)
    assert 0 < edge[110] < 100 < edge[113] < 200 and edge[90] == 0 and edge[140] == 200


def test_a_range_that_is_none_is_refused():
    with pytest.raises(ValueError, match="crop_scale"):
        ViewSettings(crop_scale=(0.9, 0.1))
