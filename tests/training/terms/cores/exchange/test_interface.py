"""Cutting a rectangle into tiles."""

from training.terms.cores.exchange.interface import tiles_of


def test_tiles_cover_a_rectangle_once():
    seen = []
    for rows, columns in tiles_of(slice(3, 10), slice(0, 5), (3, 2)):
        seen += [(r, c) for r in range(rows.start, rows.stop) for c in range(columns.start, columns.stop)]
    assert sorted(seen) == [(r, c) for r in range(3, 10) for c in range(5)]
    assert list(tiles_of(slice(4, 4), slice(0, 5), (3, 2))) == []
