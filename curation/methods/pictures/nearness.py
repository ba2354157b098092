"""Pictures held against each other by what image_decode says of them: 64-bit hashes, 8 x 8 thumbnails, sides."""

import itertools

import numpy as np
import pyarrow as pa

from curation.images.phash import HASH_BITS, bands, hamming
from curation.table.arrow import whole
from pipeline.draws import mixed

_STRIDE = 37  # odd, so that no bit is lost; far from the 8 frequencies of a row


def band_keys(hashes: np.ndarray, num_bands: int, radius: int) -> np.ndarray:
    """Groups of each hash, uint64 [choice of bands, hash], of which two within the radius share at least one."""
    cut = bands(scattered_bits(hashes), num_bands)
    keys = []
    for number, chosen in enumerate(itertools.combinations(range(num_bands), num_bands - radius)):
        key = np.full(len(hashes), number, np.uint64)
        for band in chosen:
            key = mixed(key ^ cut[band])
        keys.append(key)
    return np.stack(keys)


def near_hashes(group: np.ndarray, hashes: np.ndarray, radius: int) -> np.ndarray:
    """All i < j of one group (sorted) within the radius, int64 [pair, 2]. Each is held against the next of its group,
    the one after, and so on, for all groups at once: small groups cost no loop of their own."""
    found = [np.zeros((0, 2), np.int64)]
    at, away = np.arange(max(len(group) - 1, 0)), 1
    while len(at):
        at = at[group[at] == group[at + away]]
        near = at[hamming(hashes[at], hashes[at + away]) <= radius]
        found.append(np.stack([near, near + away], axis=1))
        away += 1
        at = at[at + away < len(group)]
    return np.concatenate(found)


def scattered_bits(hashes: np.ndarray) -> np.ndarray:
    """The same bits in another order: neighbouring frequencies go together, and would make large groups of one band."""
    bits = np.unpackbits(hashes.astype("<u8").view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
    order = np.arange(HASH_BITS) * _STRIDE % HASH_BITS
    return np.packbits(bits[:, order], axis=1, bitorder="little").reshape(-1).view("<u8").astype(np.uint64)


def ratio_of(table: pa.Table) -> np.ndarray:
    """Width over height of each row."""
    wide, high = (table.column(name).to_numpy().astype(np.float64) for name in ("width", "height"))
    return np.maximum(wide, 1) / np.maximum(high, 1)


def colour_distance(tiny: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Mean difference in levels between thumbnails, uint8 [image, value], of each of `pairs` [pair, 2]."""
    parts = [np.zeros(0)]
    for at in range(0, len(pairs), 16_384):
        left, right = tiny[pairs[at : at + 16_384].T].astype(np.int32)
        parts.append(np.abs(left - right).sum(axis=1) / tiny.shape[1])
    return np.concatenate(parts)


def largest_difference(tiny: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """As colour_distance, the greatest difference instead of the mean."""
    parts = [np.zeros(0, np.int32)]
    for at in range(0, len(pairs), 16_384):
        left, right = tiny[pairs[at : at + 16_384].T].astype(np.int32)
        parts.append(np.abs(left - right).max(axis=1, initial=0))
    return np.concatenate(parts)


def tiny_of(table: pa.Table) -> np.ndarray:
    """The thumbnails of a table, uint8 [row, value]."""
    rows = whole(table.column("tiny_rgb"))
    width = rows.type.byte_width
    data = np.frombuffer(rows.buffers()[1], np.uint8) if len(rows) else np.zeros(0, np.uint8)
    return data[rows.offset * width : (rows.offset + len(rows)) * width].reshape(len(rows), width)
