"""Sums of clusters are whole numbers, so they are the same in any cut and order, and are those of a plain loop."""

import math

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from curation.methods.vectors import clusters
from curation.methods.vectors.nearest import assigned, blocks_of
from curation.methods.vectors.stored import binary, from_binary, matrix


def vectors_of(rows: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float16)


def naive(rows: np.ndarray, centres: np.ndarray) -> dict[int, tuple[int, list[int]]]:
    """cluster -> (count, sums), in Python's whole numbers."""
    found: dict[int, tuple[int, list[int]]] = {}
    for row in rows.astype(float).tolist():
        norm = math.sqrt(math.fsum(value * value for value in row)) or 1.0
        units = [round(value / norm * 2**24) for value in row]
        likeness = [
            sum(u * round(c * 2**24) for u, c in zip(units, centre, strict=True)) for centre in centres.tolist()
        ]
        best = likeness.index(max(likeness))
        count, sums = found.get(best, (0, [0] * len(row)))
        found[best] = count + 1, [a + b for a, b in zip(sums, units, strict=True)]
    return found


def plain(table: pa.Table) -> dict[int, tuple[int, list[int]]]:
    return {row["cluster"]: (row["count"], np.frombuffer(row["sums"], np.int64).tolist()) for row in table.to_pylist()}


def nearest_sums(rows: np.ndarray, centres: np.ndarray) -> pa.Table:
    units = clusters.units(rows)
    return clusters.sums_of(units, assigned(units, blocks_of(centres.astype(np.float32)))[0])


@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 99), st.lists(st.integers(0, 40), max_size=3))
def test_any_cut_sums_to_what_a_loop_over_whole_numbers_gives(rows, number, seed, edges):
    rows = vectors_of(rows, 8, seed)
    centres = clusters.unit_vectors(vectors_of(number, 8, seed + 1))
    bounds = sorted({0, len(rows), *(edge for edge in edges if edge < len(rows))})
    parts = [nearest_sums(rows[a:b], centres) for a, b in zip(bounds, bounds[1:], strict=False)]
    assert plain(clusters.summed(parts[::-1])) == naive(rows, centres)


def test_products_are_exact_whatever_the_shape_of_the_matrix():
    rows = clusters.unit_vectors(vectors_of(700, 512, 0))
    whole, alone = rows @ rows[:9].T, np.stack([rows[i] @ rows[:9].T for i in range(len(rows))])
    assert (whole == alone).all() and (whole == (rows[:, ::-1] @ rows[:9, ::-1].T)).all()


def test_float32_holds_what_float64_does():
    values = vectors_of(5000, 12, 3)
    assert (clusters.units(values) == clusters.unit_vectors(values)).all()


@given(st.integers(0, 5), st.integers(0, 4), st.integers(0, 3))
def test_rows_of_a_matrix_come_back_from_bytes_in_any_slice(rows, width, first):
    values = np.arange(rows * width, dtype=np.int64).reshape(rows, width)
    found = from_binary(binary(values).slice(first), np.dtype("<i8"))
    assert found.tolist() == (values[first:].tolist() if len(values) > first else [])


def test_rows_without_a_vector_are_left_out():
    column = pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32(), 2)).cast(pa.list_(pa.float16(), 2))
    found, rows = matrix(pa.chunked_array([column]))
    assert found.tolist() == [[1, 2], [3, 4]] and rows.tolist() == [0, 2]
    assert matrix(column.slice(1, 1))[0].shape == (0, 0)
