"""The 64-bit perceptual hash of an image, and how far two are apart.

The hash is the DCT one of Zauner (2010), as in the `imagehash` package: 32 x 32 grey, the 8 x 8 lowest frequencies,
each bit says whether a coefficient is above their median. The transform here runs in whole numbers, so a hash is the
same on every machine, and exact symmetries give exact zeros instead of rounding noise.

Letters: N = pictures, R, C = rows and columns of pixels (32), H = hash side (8).
"""

import numpy as np
from PIL import Image

SIDE = 32
LOW = 8
HASH_BITS = LOW * LOW
_SCALE = 1 << 16  # 255 * 32 * 32 * 2**32 stays below 2**53: doubles add such whole numbers up exactly in any order


def _cosines() -> np.ndarray:
    frequency_H1 = np.arange(LOW)[:, None]
    place_1C = np.arange(SIDE)[None, :]
    # Built for half the row and mirrored: an even frequency is exactly even, an odd one exactly odd.
    half = np.round(np.cos(np.pi * frequency_H1 * (2 * place_1C[:, : SIDE // 2] + 1) / (2 * SIDE)) * _SCALE)
    sign_H1 = np.where(frequency_H1 % 2 == 0, 1, -1)
    return np.concatenate([half, sign_H1 * half[:, ::-1]], axis=1)


_COSINES_HC = _cosines()
_BIT_VALUES = np.uint64(1) << np.arange(HASH_BITS - 1, -1, -1, dtype=np.uint64)


def grey_levels(image: Image.Image, box: tuple[float, float, float, float] | None = None) -> np.ndarray:
    """Image, or what lies in the box, squashed to 32 x 32 grey levels: uint8 [R, C] (luma of ITU-R 601; Lanczos)."""
    grey = image if image.mode == "L" else image.convert("L")
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.LANCZOS, box))


def phashes(grey_NRC: np.ndarray) -> np.ndarray:
    """The hashes of 32 x 32 grey squares, uint64 [N], lowest frequency in the highest bit."""
    low_NHH = _COSINES_HC @ grey_NRC.astype(np.float64) @ _COSINES_HC.T
    flat = low_NHH.reshape(len(grey_NRC), HASH_BITS)
    ranked = np.sort(flat, axis=1)
    # Twice the median of an even count, kept whole.
    above = 2 * flat > (ranked[:, HASH_BITS // 2 - 1] + ranked[:, HASH_BITS // 2])[:, None]
    return np.where(above, _BIT_VALUES, np.uint64(0)).sum(axis=1, dtype=np.uint64)


def hamming(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Number of differing bits of two uint64 arrays, element by element."""
    return np.bitwise_count(np.bitwise_xor(left, right)).astype(np.int64)
