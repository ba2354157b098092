"""The hash is imagehash's, whole-numbered."""

import io

import imagehash
import numpy as np
import pytest
from PIL import Image

from curation.images.phash import _COSINES_HC, grey_levels, hamming, phashes
from tests.helpers.pairs import encoded, picture


def own(image: Image.Image) -> int:
    return int(phashes(grey_levels(image)[None])[0])


def test_hashes_equal_those_of_imagehash():
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 256, (60, 90, 3), dtype=np.uint8)) for _ in range(50)]
    for image in [picture(seed) for seed in range(50)] + noise:
        assert own(image) == int(str(imagehash.phash(image)), 16)


def test_the_transform_is_the_same_whole_numbers_everywhere():
    assert (_COSINES_HC == _COSINES_HC.astype(np.int64)).all() and int(np.abs(_COSINES_HC).sum()) == 11_457_824
    assert own(picture(0)) == int(str(imagehash.phash(picture(0))), 16)
    mirrored = np.asarray(grey_levels(picture(1)))[:, :16]
    symmetric = np.concatenate([mirrored, mirrored[:, ::-1]], axis=1)
    odd = (_COSINES_HC @ symmetric.astype(np.float64) @ _COSINES_HC.T)[:, 1::2]
    assert not odd.any()  # an exact symmetry gives exact zeros


@pytest.mark.parametrize(("scale", "quality"), [(1.0, 75), (0.7, 85), (1.6, 60)])
def test_resized_and_re_encoded_copies_stay_within_four_bits(scale, quality):
    for seed in range(30):
        image = picture(seed, (200, 160))
        size = (round(200 * scale), round(160 * scale))
        body = encoded(image.resize(size, Image.Resampling.BICUBIC), "JPEG", quality=quality)
        copy = Image.open(io.BytesIO(body))
        assert (own(image) ^ own(copy)).bit_count() <= 4


def test_hamming_counts_bits():
    left = np.array([0, 1, 2**64 - 1, 5], np.uint64)
    right = np.array([0, 2, 0, 4], np.uint64)
    assert hamming(left, right).tolist() == [0, 2, 64, 1]
