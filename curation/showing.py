"""What stages tell the report of themselves: tables, numbers with their cuts, pairs under headings."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa


class Labels(NamedTuple):
    """What the numbers in a column of labels stand for. rule: how they were given, in a word."""

    names: Sequence[str]
    rule: str


class Counted(NamedTuple):
    """How many texts have each label (rising; none that no text has), and the number below which one is of the tail."""

    label: np.ndarray
    texts: np.ndarray
    tail: float


class Section(NamedTuple):
    """What a stage has to say of itself in the report: a heading, a sentence, and a table of values."""

    title: str
    text: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str | int | float, ...], ...] = ()


class Scores(NamedTuple):
    """Numbers that a stage decided by, for a histogram in the report with its `cuts` drawn.

    column  as the recipe names it
    values  float64, one a pair, or one a caption where `of` says so; NaN: none
    kept    bool, whether each of them stayed
    """

    column: str
    values: np.ndarray
    kept: np.ndarray
    cuts: tuple[float, ...] = ()
    of: Literal["pairs", "captions"] = "pairs"


class Picks(NamedTuple):
    """Some pairs of a bucket that belong under one heading of the report, which shows a few of them.

    title   the heading; titles and `place`, their order, come of settings and state alone, so that all buckets agree
    rows    int64, which pairs
    order   float64 of each row: the smallest are shown, equals by a hash of the uid; None: by that hash alone
    values  float64 of each row, which the report prints behind `label`; None: nothing
    texts   string of each row: the caption in question; None: the pair's first
    kept    bool of each row; None: whether the pair stayed
    against string of each row: what is to be seen beside it, by a name that `Stage.held_against` knows; None: nothing
    """

    title: str
    rows: np.ndarray
    order: np.ndarray | None = None
    values: np.ndarray | None = None
    label: str = ""
    texts: pa.Array | None = None
    kept: np.ndarray | None = None
    place: int = 0
    against: pa.Array | None = None


class Against(NamedTuple):
    """What a pair was held against and is no pair itself: an item of an evaluation set. image: its bytes, or None."""

    image: bytes | None
    caption: str = ""
