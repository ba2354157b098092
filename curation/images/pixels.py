"""The numbers of one displayed picture: size, pixel hash, perceptual hash, contrast, small colours."""

import hashlib

import numpy as np
from PIL import Image

from curation.images.phash import grey_square, phash

TINY_SIDE = 8


def measure_picture(image: Image.Image) -> dict[str, object]:
    """The columns of one displayed RGB picture, less its format."""
    grey_RC = grey_square(image)
    levels = grey_RC.astype(np.int64)
    # From whole numbers, so that no order of summation shows in the result.
    variance = (levels.size * int((levels * levels).sum()) - int(levels.sum()) ** 2) / levels.size**2
    return {
        "width": image.width,
        "height": image.height,
        "pixels": hashlib.blake2b(b"%d %d " % image.size + image.tobytes(), digest_size=16).hexdigest(),
        "phash": phash(grey_RC),
        "contrast": variance**0.5,
        "tiny_rgb": image.resize((TINY_SIDE, TINY_SIDE), Image.Resampling.BOX).tobytes(),
    }
