"""Is one picture the other, re-encoded, resized, cropped, framed or brightened? Both are laid over each other and
looked at everywhere.

The registration is that of Lucas and Kanade (1981) as Gauss-Newton steps over scale and shift of each axis, first on
16 x 16, then on 32 x 32 grey levels, with brightness and contrast solved for in each step. What then differs most, in
any one place, decides: a copy has no place that differs, a sibling (one more ray, another letter) has.

Letters: N = pairs of pictures, R, C = rows and columns of pixels, P = parameters of a warp (4).
"""

import math
from typing import NamedTuple

import numpy as np

from curation.images.phash import SIDE
from curation.images.pixels import TINY_SIDE

_BATCH = 256  # pairs at once: 60 MB
_LEAST, _MOST = 0.8, 1.25  # scales that are looked for: 10% off each side, or as much put round it
_FARTHEST = 0.12  # shift, of a side
_ALIKE = 0.9  # correlation of 16 x 16 below which nothing more is tried: copies have 0.93 and more
_SQUASHED = 0.04  # logarithm: how far scale across and down may be apart, in the pictures or in the files
_BLURRED, _MOST_BLURRED = 20, 0.06  # differences grow with the scale: by 2.2 for a crop of 3% a side and more
_GAINS = (0.7, 1.45)  # contrast of one over that of the other
_SATURATIONS = (0.6, 1.7)  # the same of colours
_DRAB = 8  # levels: what JPEG puts into a grey picture
_NOISE = 1.0  # levels: of JPEG, of rounding
_DAMPED = 5e-5
FAR = np.inf


class Looks(NamedTuple):
    """grey: uint8 [N, R, C], of 32 x 32; tiny: mean colours, uint8 [N, 8, 8, 3]; ratio: wide / high, float64 [N]."""

    grey: np.ndarray
    tiny: np.ndarray
    ratio: np.ndarray

    def take(self, rows: np.ndarray) -> "Looks":
        return Looks(*(each[rows] for each in self))


class Apart(NamedTuple):
    """How far two pictures are from being one, float64 [N]; FAR where they cannot be laid over each other.

    grey    the largest difference of grey levels anywhere, in standard deviations of the picture; less where one had to
            be scaled, since pixels are then means over other places
    colour  the largest difference of colour (red against green, blue against green) anywhere, in levels
    """

    grey: np.ndarray
    colour: np.ndarray


def apart(one: Looks, other: Looks) -> Apart:
    """Row by row. The outermost pixels do not count: what lies beyond them is mixed in."""
    found = [np.zeros((2, 0))]
    for at in range(0, len(one.grey), _BATCH):
        rows = np.arange(at, min(at + _BATCH, len(one.grey)))
        found.append(_apart(one.take(rows), other.take(rows)))
    return Apart(*np.concatenate(found, axis=1))


def _apart(one: Looks, other: Looks) -> np.ndarray:
    left, right = (_blurred(each.grey.astype(np.float64)) for each in (one, other))
    found = np.full((2, len(left)), FAR)
    warp = np.tile([1.0, 0.0, 1.0, 0.0], (len(left), 1))
    small = _halved(left), _halved(right)
    rough = _blurred(_blurred(small[0])), _blurred(_blurred(small[1]))
    warp = _registered(*small, _registered(*rough, warp, 5), 3)
    rows = np.flatnonzero(_laid(*small, warp).correlation >= _ALIKE)
    left, right = left[rows], right[rows]
    warp = _registered(left, right, warp[rows] * [1, 2, 1, 2], 3)  # shifts are in pixels
    laid = _laid(left, right, warp)
    grey = np.abs(laid.difference).max(axis=(1, 2), initial=0) / (laid.deviation + _NOISE)
    colour = _colours_apart(one.tiny[rows], other.tiny[rows], warp)
    scaled = np.abs(warp[:, [0, 2]] - 1).max(axis=1, initial=0)
    blurred = 1 + _BLURRED * np.minimum(scaled, _MOST_BLURRED)
    possible = (laid.gain >= _GAINS[0]) & (laid.gain <= _GAINS[1])
    possible &= _squashed(one.ratio[rows], other.ratio[rows], warp) <= _SQUASHED
    found[:, rows] = np.where(possible, np.stack([grey, colour]) / blurred, FAR)
    return found


class _Laid(NamedTuple):
    """The warped left picture over the right one, where both are seen: difference [N, R, C] after brightness."""

    difference: np.ndarray
    gain: np.ndarray
    deviation: np.ndarray
    correlation: np.ndarray
    centred: np.ndarray
    seen: np.ndarray


def _over(warped: np.ndarray, right: np.ndarray, seen: np.ndarray) -> _Laid:
    left, right = _centred(warped, seen), _centred(right, seen)
    num = np.maximum(_sums(seen), 1)
    own, other, both = (_sums(a * b) for a, b in ((left, left), (right, right), (left, right)))
    gain = both / np.maximum(own, 1e-3)
    return _Laid(
        right - gain[:, None, None] * left,
        gain,
        np.sqrt(other / num),
        both / np.sqrt(np.maximum(own * other, 1e-3)),
        left,
        seen,
    )


def _laid(left: np.ndarray, right: np.ndarray, warp: np.ndarray) -> _Laid:
    across, down, seen = _samplers(left.shape[1], warp)
    return _over(down @ left @ across, right, seen)


def _registered(left: np.ndarray, right: np.ndarray, warp: np.ndarray, steps: int) -> np.ndarray:
    """A better warp [N, P]: scale and shift across, scale and shift down, in pixels from the middle."""
    num, side = left.shape[:2]
    place = np.arange(side) - (side - 1) / 2
    slopes = _slopes(left)
    weight = np.array([0.3 * place[-1] ** 2, 1, 0.3 * place[-1] ** 2, 1])
    for _ in range(steps):
        across, down, seen = _samplers(side, warp)
        laid = _over(down @ left @ across, right, seen)
        gain = np.clip(laid.gain, 0.3, 3)[:, None, None]
        by_x, by_y = (_centred(down @ slope @ across, seen) * gain for slope in slopes)
        by_NPK = np.stack([by_x * place, by_x, by_y * place[:, None], by_y], axis=1).reshape(num, 4, side**2)
        missed = _centred(right, seen) - gain * laid.centred
        curved = by_NPK @ by_NPK.transpose(0, 2, 1)
        damping = _DAMPED * np.diagonal(curved, axis1=1, axis2=2).max(axis=1) + 1e-3
        curved += damping[:, None, None] * np.diag(weight)
        step = np.linalg.solve(curved, by_NPK @ missed.reshape(num, side**2, 1))[:, :, 0]
        most = np.array([0.06, 0.05 * side, 0.06, 0.05 * side])
        warp = warp + np.clip(step, -most, most)
        shift = _FARTHEST * side
        warp = np.clip(warp, [_LEAST, -shift, _LEAST, -shift], [_MOST, shift, _MOST, shift])
    return warp


def _samplers(side: int, warp: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices [N, C, C] that sample a picture across, [N, R, R] down, and what of it is seen, [N, R, C] of 0 or 1."""
    place = np.arange(side)
    middle = (side - 1) / 2
    matrices, inside = [], []
    for scale, shift in ((warp[:, :1], warp[:, 1:2]), (warp[:, 2:3], warp[:, 3:])):
        at = scale * (place - middle) + middle + shift
        away = np.abs(np.clip(at, 0, side - 1)[:, :, None] - place)
        cubic = np.where(away < 1, (1.5 * away - 2.5) * away**2 + 1, ((2.5 - 0.5 * away) * away - 4) * away + 2)
        cubic = np.where(away < 2, cubic, 0)  # Keys (1981)
        matrices.append(cubic / cubic.sum(axis=2, keepdims=True))
        inside.append((at >= 0.5) & (at <= side - 1.5) & (place >= 1) & (place <= side - 2))
    seen = (inside[1][:, :, None] & inside[0][:, None, :]).astype(np.float64)
    return matrices[0].transpose(0, 2, 1), matrices[1], seen


def _squashed(one: np.ndarray, other: np.ndarray, warp: np.ndarray) -> np.ndarray:
    """A crop scales both axes by the same in pixels; a file squashed to a square after it, in shares of a side. A bar
    laid over a thicker bar does neither."""
    shares = np.log(warp[:, 0] / warp[:, 2])
    return np.minimum(np.abs(shares), np.abs(shares - np.log(other / one)))


def _colours_apart(one: np.ndarray, other: np.ndarray, warp: np.ndarray) -> np.ndarray:
    """After saturation is solved for. A picture without any colour is taken for a grey copy."""
    warp = warp * [1, TINY_SIDE / SIDE, 1, TINY_SIDE / SIDE]
    across, down, seen = _samplers(TINY_SIDE, warp)
    left, right = (
        [each[..., channel].astype(np.float64) - each[..., 1] for channel in (0, 2)] for each in (one, other)
    )
    left, right = [(down @ each @ across) * seen for each in left], [each * seen for each in right]
    own = sum(_sums(each * each) for each in left)
    both = sum(_sums(a * b) for a, b in zip(left, right, strict=True))
    gain = np.clip(both / np.maximum(own, 1), *_SATURATIONS)[:, None, None]
    worst = np.maximum(*[np.abs(b - gain * a).max(axis=(1, 2), initial=0) for a, b in zip(left, right, strict=True)])
    drab = [
        np.maximum(*[np.abs(channel).max(axis=(1, 2), initial=0) for channel in each]) <= _DRAB
        for each in (left, right)
    ]
    return np.where(drab[0] != drab[1], 0, worst)


def _centred(image: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Without its mean, 0 where it is not seen."""
    mean = _sums(image * seen) / np.maximum(_sums(seen), 1)
    return (image - mean[:, None, None]) * seen


def _sums(images: np.ndarray) -> np.ndarray:
    """Of each image, in an order that does not depend on how many there are."""
    return np.ascontiguousarray(images).reshape(len(images), math.prod(images.shape[1:])).sum(axis=1)


def _blurred(image: np.ndarray) -> np.ndarray:
    """By 1 2 1, down and across."""
    tall = np.pad(image, ((0, 0), (1, 1), (0, 0)), mode="edge")
    down = (tall[:, :-2] + 2 * tall[:, 1:-1] + tall[:, 2:]) / 4
    wide = np.pad(down, ((0, 0), (0, 0), (1, 1)), mode="edge")
    return (wide[:, :, :-2] + 2 * wide[:, :, 1:-1] + wide[:, :, 2:]) / 4


def _halved(image: np.ndarray) -> np.ndarray:
    return (image[:, ::2, ::2] + image[:, 1::2, ::2] + image[:, ::2, 1::2] + image[:, 1::2, 1::2]) / 4


def _slopes(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Across and down."""
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")
    return (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2, (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2
