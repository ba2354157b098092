"""Which pictures are held against each other: notes of their sketches, brought together by key, tell the nearest.

A stage's steps are made of these: `sketched` in its survey, `near_ones` where the notes of a key meet, `nearest` where
a pair is told.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.images.phash import SIDE
from curation.images.pixels import TINY_SIDE
from curation.methods.pictures.leaders import FEW, leaders
from curation.methods.pictures.likeness import LINKS
from curation.methods.pictures.registration import Looks
from curation.methods.pictures.sketches import NUM_KEYS, NUMBERS, near_sketches, sketch_keys, sketches
from curation.stage import GROUP
from curation.table.arrow import whole
from curation.table.uids import DIGITS

FARTHEST = 1600  # squared distance of sketches: half of the copies are within 40, those cut by 5% left and top 1,100
NEAREST, LEADS, LED = 1, 2, 4  # bits: one of the nearest; one of the best near it; it is that to the other
_BITS = 14  # three of these below eleven of a distance
_AT_ONCE = 4096  # pictures sketched: 12 MB of keys, and what is made of them
_LED = 1 << 14  # so many of a crowd are held against its best, the best of them first: 20 MB of pictures
NEAR = pa.schema([*LINKS, pa.field("distance", pa.int32()), pa.field("how", pa.int8())])


def sketched(pairs: pa.Table, ranks: pa.Array) -> pa.Table:
    """A note for each picture and key, with the view of the picture that is the first to have it."""
    packed_ranks = packed(ranks)
    some = range(0, max(pairs.num_rows, 1), _AT_ONCE)
    return pa.concat_tables([_sketched(pairs.slice(at, _AT_ONCE), packed_ranks.slice(at, _AT_ONCE)) for at in some])


def _sketched(pairs: pa.Table, ranks: pa.Array) -> pa.Table:
    found = sketches(bytes_of(pairs, "grey").reshape(-1, SIDE, SIDE))
    keys = sketch_keys(found)
    order = np.argsort(keys, axis=1, kind="stable")  # of equal keys the first view stays in front
    key = np.take_along_axis(keys, order, axis=1)
    first = np.ones(key.shape, bool)
    first[:, 1:] = key[:, 1:] != key[:, :-1]
    row, view = np.nonzero(first)[0], order[first] * found.shape[1] // NUM_KEYS
    numbers = found[row, view].tobytes()
    sketch = pa.Array.from_buffers(pa.binary(NUMBERS), len(row), [None, pa.py_buffer(numbers)])
    return pa.table({GROUP: key[first], "rank": ranks.take(pa.array(row)), "sketch": sketch})


def packed(ranks: pa.Array) -> pa.Array:
    """Hex digits, of one length, as bytes of the same order: half as long where there are many."""
    width = pc.max(pc.binary_length(ranks)).as_py() if len(ranks) else 0
    digits = bytes.fromhex("".join(ranks.to_pylist()))
    return pa.Array.from_buffers(pa.binary(width // 2), len(ranks), [None, pa.py_buffer(digits)])


def unpacked(ranks: pa.Array) -> pa.Array:
    width, digits = 2 * ranks.type.byte_width, bytes_in(ranks).tobytes().hex().encode()
    found = pa.Array.from_buffers(pa.binary(width), len(ranks), [None, pa.py_buffer(digits)])
    return found.cast(pa.binary()).cast(pa.string())


def near_ones(notes: pa.Table, most: int) -> pa.Table:
    """Of all that share a group the nearest of each and the best near it, both ways."""
    names = whole(notes.column("rank")).dictionary_encode()
    order = pc.sort_indices(names.dictionary)
    number = np.argsort(order.to_numpy())[names.indices.to_numpy()]  # of each rank, in their order
    group = notes.column(GROUP).to_numpy()
    by_group = np.lexsort((number, group))
    sketch = bytes_of(notes, "sketch").view(np.int8)[by_group]
    found, distance = near_sketches(group[by_group], sketch, FARTHEST)
    best, to_best = leaders(sketch, found, distance)
    left, right = number[by_group][np.concatenate([found, best])].T
    distance = np.concatenate([distance, to_best])
    leads, led = (np.repeat([0, how], [len(found), len(best)]) for how in (LEADS, LED))
    own, near, distance, how = _chosen(
        np.concatenate([left, right]),
        np.concatenate([right, left]),
        np.concatenate([distance, distance]),
        np.concatenate([leads, led]),
        most,
    )
    ranks = unpacked(names.dictionary.take(order))
    uids = pc.utf8_slice_codeunits(ranks, -DIGITS)
    return pa.table([uids.take(pa.array(own)), ranks.take(pa.array(near)), distance, how], schema=NEAR)


def _chosen(own: np.ndarray, near: np.ndarray, distance: np.ndarray, how: np.ndarray, most: int) -> list[np.ndarray]:
    """The four, sorted by `own`, each two numbers once: of each the `most` nearest, the FEW best of those that lead it,
    the _LED best of those that it leads."""
    # Each row as one number, which sorts 10 x as fast: twice 24 bits for numbers up to 16 million, 11 and 3 for others.
    bits = int(max(own.max(initial=0), near.max(initial=0))).bit_length()
    rows = np.sort((own << bits | near) << _BITS | distance << 3 | how)
    first = np.flatnonzero(np.diff(rows >> _BITS, prepend=-1))
    how = np.bitwise_or.reduceat(rows & 7, first) if len(first) else rows
    rows = rows[first]
    own, near, distance = rows >> bits + _BITS, rows >> _BITS & (1 << bits) - 1, rows >> 3 & (1 << 11) - 1
    kept = np.zeros(len(own), np.int8)
    by_distance = np.argsort(own << _BITS | distance, kind="stable")  # in the order of ranks where that is the same
    leads, led = (np.flatnonzero(how & kind) for kind in (LEADS, LED))
    for kind, of_kind, few in ((NEAREST, by_distance, most), (LEADS, leads, FEW), (LED, led, _LED)):
        begins = np.flatnonzero(np.diff(own[of_kind], prepend=-1))
        place = np.arange(len(of_kind)) - np.repeat(begins, np.diff(begins, append=len(of_kind)))
        kept[of_kind[place < few]] |= kind
    return [own[kept > 0], near[kept > 0], distance[kept > 0].astype(np.int32), kept[kept > 0]]


def nearest(near: pa.Table, most: int) -> pa.Table:
    """What all groups have told of each pair, each once: at most so many, the nearest, and the best."""
    uids, ranks = (whole(near.column(name)).dictionary_encode() for name in ("uid", "near"))
    order = pc.sort_indices(ranks.dictionary)
    number = np.argsort(order.to_numpy())[ranks.indices.to_numpy()]
    distance, how = (near.column(name).to_numpy().astype(np.int64) for name in ("distance", "how"))
    own, other, distance, how = _chosen(uids.indices.to_numpy().astype(np.int64), number, distance, how, most)
    names = ranks.dictionary.take(order).take(pa.array(other))
    return pa.table([uids.dictionary.take(pa.array(own)), names, distance, how], schema=NEAR)


def looks_of(table: pa.Table) -> Looks:
    num = table.num_rows
    grey, tiny = bytes_of(table, "grey").reshape(num, SIDE, SIDE), bytes_of(table, "tiny_rgb")
    wide, high = (table.column(name).to_numpy().astype(np.float64) for name in ("width", "height"))
    return Looks(grey, tiny.reshape(num, TINY_SIDE, TINY_SIDE, 3), np.maximum(wide, 1) / np.maximum(high, 1))


def bytes_of(table: pa.Table, name: str) -> np.ndarray:
    """A column of texts of one length, uint8 [row, byte]."""
    return bytes_in(whole(table.column(name)))


def bytes_in(rows: pa.Array) -> np.ndarray:
    width = rows.type.byte_width
    data = np.frombuffer(rows.buffers()[1], np.uint8) if len(rows) else np.zeros(0, np.uint8)
    return data[rows.offset * width : (rows.offset + len(rows)) * width].reshape(len(rows), width)
