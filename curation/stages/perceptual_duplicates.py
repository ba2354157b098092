"""Keeps one of several pairs whose images look the same: resized, re-encoded, slightly cropped copies."""

import itertools
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from curation.images.phash import bands, hamming
from curation.methods.duplicates import Duplicates, components, graph, member_rows, rank_columns
from curation.table.arrow import whole
from pipeline.draws import mixed

_SEEN = ("phash", "tiny_rgb", "width", "height")  # what a comparison of two pictures needs
_MERGE_RATIO = (
    1.03  # how far the ratios of the sides of two files of one picture may be apart: rounding, a cropped edge
)
_CHUNK = 512  # rows compared with all others at once


class PerceptualDuplicates(Duplicates):
    """Two images are alike when their 64-bit hashes differ in at most `radius` bits and their 8 x 8 thumbnails by at
    most `max_colour_distance` levels on average. The hash sees no colour: without the second test a red button and a
    blue one are copies. Every pair of images within the radius is found, none is guessed (see `num_bands`).

    Alike is not the same: a card and its sibling, two stars of which one has a ray more. So captions of a removed pair
    go to its survivor only when these two, compared with each other, differ in at most `merge_radius` bits of the hash,
    by at most `merge_colour_distance` levels on average and `merge_largest_difference` anywhere in the thumbnails, and
    by at most 3% in the ratio of their sides.

    grouping     near_survivor: going through the pairs from the best down, each takes away those alike to itself, so
                 that none is removed for the sake of one it does not resemble. components: all that hang together by
                 likeness are one group; on clip art and text signs, where likeness forms chains, more are lost
    min_contrast images flatter than this (standard deviation of grey levels) are left alone: their hash is noise
    num_bands    hashes are cut into this many runs of bits; two alike hashes share at least num_bands - radius of them.
                 More bands make smaller groups to compare and more notes to write; default radius + 1
    """

    kind: Literal["perceptual_duplicates"] = "perceptual_duplicates"
    reads: ClassVar[tuple[str, ...]] = ("phash", "contrast", "tiny_rgb", "width", "height", "captions.text")

    radius: int = Field(4, ge=0, le=16)
    max_colour_distance: float | None = Field(10.0, ge=0, le=255)
    min_contrast: float = Field(4.0, ge=0)
    merge_radius: int = Field(2, ge=0, le=16)
    merge_colour_distance: float = Field(2.0, ge=0, le=255)
    merge_largest_difference: int = Field(16, ge=0, le=255)
    grouping: Literal["components", "near_survivor"] = "near_survivor"
    num_bands: int | None = Field(None, ge=1, le=24)

    @model_validator(mode="after")
    def _enough_bands(self) -> "PerceptualDuplicates":
        if self.num_bands is not None and not self.radius < self.num_bands <= self.radius + 4:
            raise ValueError(f"num_bands must be radius + 1 to radius + 4 ({self.radius + 1} to {self.radius + 4})")
        return self

    def survey(self, pairs: pa.Table, seed: int) -> pa.Table:
        """A note per image and choice of bands that all alike hashes might share."""
        pairs = pairs.filter(pc.greater_equal(pairs.column("contrast"), self.min_contrast))
        ranks = rank_columns(pairs, self.merge_captions)
        for name in _SEEN:
            ranks = ranks.append_column(name, pairs.column(name))
        groups = self.keys(whole(pairs.column("phash")).to_numpy())
        notes = [ranks.append_column("group", pa.array(key)) for key in groups]
        return pa.concat_tables(notes)

    def keys(self, hashes: np.ndarray) -> np.ndarray:
        """The groups of each hash, uint64 [choice of bands, hash]."""
        num_bands = self.num_bands or self.radius + 1
        cut = bands(hashes, num_bands)
        keys = []
        for number, chosen in enumerate(itertools.combinations(range(num_bands), num_bands - self.radius)):
            key = np.full(len(hashes), number, np.uint64)
            for band in chosen:
                key = mixed(key ^ cut[band])
            keys.append(key)
        return np.stack(keys)

    def settle(self, notes: pa.Table) -> pa.Table:
        """Members: identical signatures point by `same` to the best of them, these carry links to each other."""
        ordered = notes.take(pa.array(self.ranked(notes)))
        ordered = ordered.take(pc.sort_indices(ordered, [("group", "ascending")]))  # stable: best first in each group
        group = ordered.column("group").to_numpy()
        starts = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]])) if len(group) else np.zeros(0, int)
        hashes = ordered.column("phash").to_numpy()
        tiny = _tiny(ordered)
        same = np.full(len(group), -1)
        links: dict[int, list[int]] = {}
        for start, stop in itertools.pairwise([*starts, len(group)]):
            if stop - start > 1:
                self._compare(hashes[start:stop], tiny[start:stop], start, same, links)
        uids = whole(ordered.column("uid")).to_pylist()
        at = np.array(sorted({*np.flatnonzero(same >= 0), *same[same >= 0], *links}), np.int64)
        linked = [[uids[other] for other in links.get(row, ())] for row in at]
        return member_rows(ordered.drop_columns(["group"]), at, same[at], linked)

    def _compare(
        self, hashes: np.ndarray, tiny: np.ndarray, start: int, same: np.ndarray, links: dict[int, list[int]]
    ) -> None:
        """Compares all of one group; writes into `same` and `links`, whose row numbers begin at `start`."""
        seen = (
            hashes[:, None].view(np.uint8)
            if self.max_colour_distance is None
            else (np.concatenate([hashes[:, None].view(np.uint8), tiny], axis=1))
        )
        rows = np.ascontiguousarray(seen).view(np.dtype((np.void, seen.shape[1])))[:, 0]
        _, first, which = np.unique(rows, return_index=True, return_inverse=True)
        best = first[which]
        copies = np.flatnonzero(best != np.arange(len(rows)))
        same[start + copies] = start + best[copies]
        distinct = np.sort(first)
        edges = distinct[self.alike(hashes[distinct], tiny[distinct])]
        if self.grouping == "components" and len(edges):  # a spanning tree says as much as all edges
            edges = _spanning(edges, len(rows))
        for left, right in edges + start:
            links.setdefault(int(left), []).append(int(right))
            links.setdefault(int(right), [])

    def alike(self, hashes: np.ndarray, tiny: np.ndarray) -> np.ndarray:
        """All pairs i < j of alike images, int64 [pair, 2]."""
        found = [np.zeros((0, 2), np.int64)]
        for at in range(0, len(hashes), _CHUNK):
            near = hamming(hashes[at : at + _CHUNK, None], hashes[None, at:]) <= self.radius
            left, right = np.nonzero(np.triu(near, 1))
            pairs = np.stack([left, right], axis=1) + at
            if self.max_colour_distance is not None:
                pairs = pairs[colour_distance(tiny, pairs) <= self.max_colour_distance]
            found.append(pairs)
        return np.concatenate(found)

    def fold(self, settled: pa.Table) -> pa.Table:
        if self.grouping == "components" or not settled.num_rows:
            return super().fold(settled)
        members, same, links = graph(settled)
        order = self.ranked(members)
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        leader = _near_survivor(links, rank, is_copy=np.isin(np.arange(len(order)), same[:, 0]))
        leader[same[:, 0]] = leader[same[:, 1]]  # a copy is alike to whatever the one it is identical to is alike to
        return self.elect(members, np.unique(leader, return_inverse=True)[1])

    def shows_the_same(self, members: pa.Table, survivor: np.ndarray) -> np.ndarray:
        pairs = np.stack([np.arange(len(survivor)), survivor], axis=1)
        hashes, tiny = members.column("phash").to_numpy(), _tiny(members)
        wide, high = (members.column(name).to_numpy().astype(np.float64) for name in ("width", "height"))
        ratio = np.maximum(wide, 1) / np.maximum(high, 1)
        ratio /= ratio[survivor]
        return (
            (hamming(hashes, hashes[survivor]) <= self.merge_radius)
            & (colour_distance(tiny, pairs) <= self.merge_colour_distance)
            & (largest_difference(tiny, pairs) <= self.merge_largest_difference)
            & (np.maximum(ratio, 1 / ratio) <= _MERGE_RATIO)
        )


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


def _tiny(table: pa.Table) -> np.ndarray:
    rows = whole(table.column("tiny_rgb"))
    width = rows.type.byte_width
    data = np.frombuffer(rows.buffers()[1], np.uint8) if len(rows) else np.zeros(0, np.uint8)
    return data[rows.offset * width : (rows.offset + len(rows)) * width].reshape(len(rows), width)


def _spanning(edges: np.ndarray, num: int) -> np.ndarray:
    """Edges from the first node of every component to its others."""
    nodes = np.unique(edges)
    group = components(edges, num)[nodes]
    _, first, which = np.unique(group, return_index=True, return_inverse=True)
    root = nodes[first[which]]
    return np.stack([root, nodes], axis=1)[root != nodes]


def _near_survivor(edges: np.ndarray, rank: np.ndarray, is_copy: np.ndarray) -> np.ndarray:
    """The leader of each node that is no copy: from rank 0 on, a free node leads itself and its free neighbours."""
    num = len(rank)
    both = np.concatenate([edges, edges[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    bounds = np.searchsorted(both[:, 0], np.arange(num + 1))
    leader = np.full(num, -1)
    for node in np.argsort(rank):
        if leader[node] < 0 and not is_copy[node]:
            leader[node] = node
            near = both[bounds[node] : bounds[node + 1], 1]
            leader[near[leader[near] < 0]] = node
    return leader
