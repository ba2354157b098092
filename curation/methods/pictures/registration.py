"""Is one picture the other, re-encoded, resized, cropped, framed or brightened? Both are laid over each other and
looked at everywhere.

The registration is that of Lucas and Kanade (1981), by Gauss-Newton steps over scale and shift of each axis in the
inverse form of Baker and Matthews (2004), whose slopes and curvature are those of the picture that stands still and so
are worked out once; brightness and contrast are solved for in each step. First on blurred 16 x 16, then on 16 x 16,
then on 32 x 32 grey levels. What then differs most, in any one place, decides: a copy has no place that differs, a
sibling (one more ray, another letter) has.

Letters: N = pairs of pictures, R, C = rows and columns of pixels, P = parameters of a warp (4).
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from curation.images.phash import SIDE
from curation.images.pixels import TINY_SIDE

_BATCH = 256  # pairs at once: 10 MB
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
_PLACES = 256  # a pixel is sampled at so many places: a step of black to white moves by a level between two
_STILL = 1 / 512  # pixels: a warp that moves no corner by more has arrived
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
    fine, small, rough = _lenses()
    found = np.full((2, len(one.grey)), FAR)
    warp = _started(_through(rough, one), _through(rough, other))
    left, right = _through(small, one), _through(small, other)
    warp = _registered(left, right, warp, 4)
    rows = np.flatnonzero(_laid(left, right, warp).correlation >= _ALIKE)
    left, right = _through(fine, one.take(rows)), _through(fine, other.take(rows))
    warp = _registered(left, right, warp[rows] * [1, 2, 1, 2], 5)  # shifts are in pixels
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


def _laid(left: np.ndarray, right: np.ndarray, warp: np.ndarray) -> _Laid:
    across, down, see_x, see_y = _samplers(left.shape[1], warp)
    seen = see_y[:, :, None] * see_x[:, None, :]
    num = np.maximum(see_x.sum(axis=1) * see_y.sum(axis=1), 1).astype(np.float64)
    warped, right = down @ left @ across, right * seen  # where it is not seen a sampler is 0
    level, wanted = _sums(warped) / num, _sums(right) / num
    own = np.maximum(_products(warped, warped) - num * level**2, 0)
    other = np.maximum(_products(right, right) - num * wanted**2, 0)
    both = _products(warped, right) - num * level * wanted
    gain = both / np.maximum(own, 1e-3)
    rise, bias = (each.astype(np.float32)[:, None, None] for each in (gain, wanted - gain * level))
    return _Laid(
        right - rise * warped - bias * seen,
        gain,
        np.sqrt(other / num),
        both / np.sqrt(np.maximum(own * other, 1e-3)),
    )


def _started(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """A first warp [N, P]: the better one of moving either over the other, as nothing is known of which shows more."""
    start = np.tile([1.0, 0.0, 1.0, 0.0], (len(left), 1))
    one, other = _moved(left, right, start, 5), _inverse(_moved(right, left, start, 5))
    better = _laid(left, right, one).correlation >= _laid(left, right, other).correlation
    return np.where(better[:, None], one, other)


def _registered(left: np.ndarray, right: np.ndarray, warp: np.ndarray, steps: int) -> np.ndarray:
    """A better warp [N, P]: scale and shift across, scale and shift down, in pixels from the middle.

    What shows more is moved over what shows less, whichever is which: the one round whose picture there is a frame has
    slopes at its edge that the other has not.
    """
    swapped = (warp[:, 0] * warp[:, 2] > 1)[:, None]
    over, under = (np.where(swapped[:, None], *each) for each in ((right, left), (left, right)))
    found = _moved(over, under, np.where(swapped, _inverse(warp), warp), steps)
    return np.where(swapped, _inverse(found), found)


def _inverse(warp: np.ndarray) -> np.ndarray:
    scale, shift = warp[:, ::2], warp[:, 1::2]
    return np.stack([1 / scale, -shift / scale], axis=2).reshape(warp.shape)


def _moved(left: np.ndarray, right: np.ndarray, warp: np.ndarray, steps: int) -> np.ndarray:
    """Steps from a warp to a better one."""
    num, side = left.shape[:2]
    by_NPK, solve = _slopes(right)
    shift, corner = _FARTHEST * side, (side - 1) / 2
    longest = np.array([0.06, 0.05 * side, 0.06, 0.05 * side])
    warp, moving = warp.copy(), np.arange(num)
    for _ in range(steps):
        laid = _laid(left[moving], right[moving], warp[moving])
        missed = by_NPK[moving] @ laid.difference.reshape(len(moving), side**2, 1)
        step = np.clip((solve[moving] @ missed)[:, :, 0], -longest, longest)
        scale = warp[moving][:, [0, 0, 2, 2]]  # of a step that is made before the warp
        warp[moving] = np.clip(
            warp[moving] + scale * step, [_LEAST, -shift, _LEAST, -shift], [_MOST, shift, _MOST, shift]
        )
        far = np.abs(step[:, ::2]) * corner + np.abs(step[:, 1::2])
        moving = moving[far.max(axis=1, initial=0) > _STILL]
    return warp


def _slopes(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How a picture changes with each parameter of a warp of it, float32 [N, P, K], 0 at the edge; and the matrices
    [N, P, P] that make steps of what is missed along these."""
    num, side = image.shape[:2]
    place = np.arange(side, dtype=np.float32) - (side - 1) / 2
    inner = np.zeros((side, side), np.float32)
    inner[1:-1, 1:-1] = 1
    slope = _matrices(side).slope
    by_x, by_y = image @ slope.T, slope @ image
    each = np.stack([by_x * place, by_x, by_y * place[:, None], by_y], axis=1) * inner
    each -= (each.sum(axis=(2, 3)) / inner.sum())[:, :, None, None] * inner
    by_NPK = each.reshape(num, 4, side**2)
    curved = (by_NPK @ by_NPK.transpose(0, 2, 1)).astype(np.float64)
    damping = _DAMPED * np.diagonal(curved, axis1=1, axis2=2).max(axis=1, initial=0) + 1e-3
    weight = np.array([0.3 * place[-1] ** 2, 1, 0.3 * place[-1] ** 2, 1])
    return by_NPK, np.linalg.inv(curved + damping[:, None, None] * np.diag(weight))


class _Matrices(NamedTuple):
    """Of a side of so many pixels, float32. slope [C, C]: differences of neighbours; sampler [place, C]: what makes the
    pixel at each place, the last one being outside: nothing (Keys, 1981)."""

    slope: np.ndarray
    sampler: np.ndarray


@cache
def _matrices(side: int) -> _Matrices:
    eye = np.pad(np.eye(side), ((1, 1), (0, 0)), mode="edge")
    at = np.arange((side - 1) * _PLACES + 1) / _PLACES
    away = np.abs(at[:, None] - np.arange(side))
    cubic = np.where(away < 1, (1.5 * away - 2.5) * away**2 + 1, ((2.5 - 0.5 * away) * away - 4) * away + 2)
    cubic = np.where(away < 2, cubic, 0)
    sampler = np.concatenate([cubic / cubic.sum(axis=1, keepdims=True), np.zeros((1, side))])
    return _Matrices(((eye[2:] - eye[:-2]) / 2).astype(np.float32), sampler.astype(np.float32))


@cache
def _lenses() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Through which pictures are seen, float32 [rows, R]: blurred by 1 2 1; then halved; then blurred twice more."""

    def blur(side: int) -> np.ndarray:
        eye = np.pad(np.eye(side), ((1, 1), (0, 0)), mode="edge")
        return (eye[:-2] + 2 * eye[1:-1] + eye[2:]) / 4

    fine = blur(SIDE)
    small = (fine[::2] + fine[1::2]) / 2
    rough = blur(SIDE // 2) @ blur(SIDE // 2) @ small
    return fine.astype(np.float32), small.astype(np.float32), rough.astype(np.float32)


def _through(lens: np.ndarray, looks: Looks) -> np.ndarray:
    """Grey levels around 0, for which float32 is enough."""
    return lens @ (looks.grey.astype(np.float32) - 128) @ lens.T


def _samplers(side: int, warp: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Matrices that sample a picture across, [N, C, C], and down, [N, R, R], 0 for what is not seen; and what is seen,
    [N, C] and [N, R] of 0 or 1."""
    place, middle = np.arange(side), (side - 1) / 2
    sampler, found, seen = _matrices(side).sampler, [], []
    for scale, shift in ((warp[:, :1], warp[:, 1:2]), (warp[:, 2:3], warp[:, 3:])):
        at = scale * (place - middle) + middle + shift
        inside = (at >= 0.5) & (at <= side - 1.5) & (place >= 1) & (place <= side - 2)
        found.append(sampler[np.where(inside, np.rint(at * _PLACES), len(sampler) - 1).astype(np.int64)])
        seen.append(inside.astype(np.float32))
    return found[0].transpose(0, 2, 1), found[1], seen[0], seen[1]


def _squashed(one: np.ndarray, other: np.ndarray, warp: np.ndarray) -> np.ndarray:
    """A crop scales both axes by the same in pixels; a file squashed to a square after it, in shares of a side. A bar
    laid over a thicker bar does neither."""
    shares = np.log(warp[:, 0] / warp[:, 2])
    return np.minimum(np.abs(shares), np.abs(shares - np.log(other / one)))


def _colours_apart(one: np.ndarray, other: np.ndarray, warp: np.ndarray) -> np.ndarray:
    """After saturation is solved for. A picture without any colour is taken for a grey copy."""
    across, down, see_x, see_y = _samplers(TINY_SIDE, warp * [1, TINY_SIDE / SIDE, 1, TINY_SIDE / SIDE])
    seen = see_y[:, :, None] * see_x[:, None, :]
    left, right = ([each[..., at].astype(np.float32) - each[..., 1] for at in (0, 2)] for each in (one, other))
    left, right = [down @ each @ across for each in left], [each * seen for each in right]
    own = sum(_products(each, each) for each in left)
    both = sum(_products(a, b) for a, b in zip(left, right, strict=True))
    gain = np.clip(both / np.maximum(own, 1), *_SATURATIONS).astype(np.float32)[:, None, None]
    worst = np.maximum(*[np.abs(b - gain * a).max(axis=(1, 2), initial=0) for a, b in zip(left, right, strict=True)])
    drab = [
        np.maximum(*[np.abs(channel).max(axis=(1, 2), initial=0) for channel in each]) <= _DRAB
        for each in (left, right)
    ]
    return np.where(drab[0] != drab[1], 0, worst)


def _sums(images: np.ndarray) -> np.ndarray:
    """Of each image, float64, in an order that does not depend on how many there are."""
    return images.reshape(len(images), math.prod(images.shape[1:])).sum(axis=1).astype(np.float64)


def _products(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The sum of the products of each two images, float64."""
    num, size = len(one), math.prod(one.shape[1:])
    return (one.reshape(num, 1, size) @ other.reshape(num, size, 1))[:, 0, 0].astype(np.float64)
