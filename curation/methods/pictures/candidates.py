"""Which pictures are held against each other: notes of their sketches, brought together by key, tell the nearest.

A stage's steps are made of these: `sketched` in its survey, `near_ones` where the notes of a key meet, `nearest` where
a pair is told.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.images.phash import SIDE
from curation.images.pixels import TINY_SIDE
from curation.methods.pictures.likeness import LINKS
from curation.methods.pictures.registration import Looks
from curation.methods.pictures.sketches import NUM_KEYS, NUMBERS, near_sketches, sketch_keys, sketches
from curation.stage import GROUP
from curation.table.arrow import whole
from curation.table.uids import DIGITS

FARTHEST = 1600  # squared distance of sketches: half of the copies are within 40, those cut by 5% left and top 1,100
NEAR = LINKS.append(pa.field("distance", pa.int32()))


def sketched(pairs: pa.Table, ranks: pa.Array) -> pa.Table:
    """A note for each picture and key, with the view of the picture that is the first to have it."""
    found = sketches(looks_of(pairs).grey)
    keys = sketch_keys(found)
    order = np.argsort(keys, axis=1, kind="stable")  # of equal keys the first view stays in front
    key = np.take_along_axis(keys, order, axis=1)
    first = np.ones(key.shape, bool)
    first[:, 1:] = key[:, 1:] != key[:, :-1]
    row, view = np.nonzero(first)[0], order[first] * found.shape[1] // NUM_KEYS
    numbers = found[row, view].tobytes()
    sketch = pa.Array.from_buffers(pa.binary(NUMBERS), len(row), [None, pa.py_buffer(numbers)])
    return pa.table({GROUP: key[first], "rank": ranks.take(pa.array(row)), "sketch": sketch})


def near_ones(notes: pa.Table, most: int) -> pa.Table:
    """Of all that share a group the nearest of each, both ways."""
    names = whole(notes.column("rank")).dictionary_encode()
    order = pc.sort_indices(names.dictionary)
    number = np.argsort(order.to_numpy())[names.indices.to_numpy()]  # of each rank, in their order
    group = notes.column(GROUP).to_numpy()
    by_group = np.lexsort((number, group))
    sketch = bytes_of(notes, "sketch").view(np.int8)[by_group]
    found, distance = near_sketches(group[by_group], sketch, FARTHEST)
    left, right = number[by_group][found].T
    own, near, distance = _first_of(
        np.concatenate([left, right]), np.concatenate([right, left]), np.concatenate([distance, distance]), most
    )
    ranks = names.dictionary.take(order)
    uids = pc.utf8_slice_codeunits(ranks, -DIGITS)
    return pa.table([uids.take(pa.array(own)), ranks.take(pa.array(near)), distance], schema=NEAR)


def _first_of(own: np.ndarray, near: np.ndarray, distance: np.ndarray, most: int) -> tuple[np.ndarray, ...]:
    """The three, sorted by `own`: at most so many rows of each, each two numbers once, the nearest first."""
    base, step = np.int64(max(own.max(initial=0), near.max(initial=0)) + 1), np.int64(FARTHEST + 1)
    rows = np.sort((own * base + near) * step + distance)  # as one number, for numbers up to 70 million: 5 x
    both, distance = np.divmod(rows, step)
    first = np.diff(both, prepend=-1) > 0
    own, near = np.divmod(both[first], base)
    rows = np.sort((own * step + distance[first]) * base + near)
    both, near = np.divmod(rows, base)
    own, distance = np.divmod(both, step)
    place = np.arange(len(own)) - np.searchsorted(own, own)
    return tuple(each[place < most] for each in (own, near, distance.astype(np.int32)))


def nearest(near: pa.Table, most: int) -> pa.Table:
    """What all groups have told of each pair: at most so many, each once, the nearest first."""
    uids, ranks = (whole(near.column(name)).dictionary_encode() for name in ("uid", "near"))
    order = pc.sort_indices(ranks.dictionary)
    number = np.argsort(order.to_numpy())[ranks.indices.to_numpy()]
    distance = near.column("distance").to_numpy().astype(np.int64)
    own, other, distance = _first_of(uids.indices.to_numpy().astype(np.int64), number, distance, most)
    names = ranks.dictionary.take(order).take(pa.array(other))
    return pa.table([uids.dictionary.take(pa.array(own)), names, distance], schema=NEAR)


def looks_of(table: pa.Table) -> Looks:
    num = table.num_rows
    grey, tiny = bytes_of(table, "grey").reshape(num, SIDE, SIDE), bytes_of(table, "tiny_rgb")
    wide, high = (table.column(name).to_numpy().astype(np.float64) for name in ("width", "height"))
    return Looks(grey, tiny.reshape(num, TINY_SIDE, TINY_SIDE, 3), np.maximum(wide, 1) / np.maximum(high, 1))


def bytes_of(table: pa.Table, name: str) -> np.ndarray:
    """A column of texts of one length, uint8 [row, byte]."""
    rows = whole(table.column(name))
    width = rows.type.byte_width
    data = np.frombuffer(rows.buffers()[1], np.uint8) if len(rows) else np.zeros(0, np.uint8)
    return data[rows.offset * width : (rows.offset + len(rows)) * width].reshape(len(rows), width)
