"""What balancing draws for: every text, one text of each pair, or the pair as a whole; one keyed uniform each."""

from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from curation.methods.concepts.mentions import Mentions
from pipeline.draws import keyed_uniform, keyed_uniforms

Unit = Literal["text", "one_text", "pair"]

NONE = -1


class Lots(NamedTuple):
    """One lot per draw, in order of pair, then text.

    row           pair of each lot, int64 [lot]
    text          its text's number in Mentions, int64 [lot]; NONE where the lot is a whole pair
    draw          uniform in [0, 1), float64 [lot]
    owner, entry  lot and entry of every mention, int64 [mention] both, sorted, distinct; a lot that mentions nothing
                  has the single entry NONE, whose count is 0: it stays for certain
    """

    row: np.ndarray
    text: np.ndarray
    draw: np.ndarray
    owner: np.ndarray
    entry: np.ndarray


def lots_of(said: Mentions, uids: list[str], seed: int, stage: str, unit: Unit, keep_unmatched: bool) -> Lots:
    """The lots of the pairs `uids`. What mentions no entry gets one only when it is to be kept."""
    if unit == "pair":
        mentioned = np.unique(np.stack([said.row[said.owner], said.entry], axis=1), axis=0)
        row = np.arange(len(uids)) if keep_unmatched else np.unique(mentioned[:, 0])
        draw = keyed_uniforms(seed, stage, [uids[i] for i in row.tolist()])
        return _lots(row, np.full(len(row), NONE), draw, np.searchsorted(row, mentioned[:, 0]), mentioned[:, 1])
    text = np.arange(len(said.row)) if keep_unmatched else np.unique(said.owner)
    if unit == "one_text":
        text = _picked(said, text, uids, seed, stage)
    row, texts = said.row[text], said.text.take(pa.array(text)).to_pylist()
    draw = keyed_uniforms(seed, stage, [uids[i] for i in row.tolist()], texts)
    lot = np.full(len(said.row), NONE)
    lot[text] = np.arange(len(text))
    owner = lot[said.owner]
    owner, entry = owner[owner != NONE], said.entry[owner != NONE]
    if keep_unmatched:  # a pair without any text has nothing to lose
        bare = np.setdiff1d(np.arange(len(uids)), said.row)
        owner = owner + np.searchsorted(bare, row)[owner]  # its place once the bare ones stand between
        row, text, draw = (np.concatenate(both) for both in ((row, bare), (text, bare * 0 + NONE), (draw, bare * 0.0)))
        order = np.argsort(row, kind="stable")
        row, text, draw = row[order], text[order], draw[order]
    return _lots(row, text, draw, owner, entry)


def _lots(row: np.ndarray, text: np.ndarray, draw: np.ndarray, owner: np.ndarray, entry: np.ndarray) -> Lots:
    is_silent = np.ones(len(row), bool)
    is_silent[owner] = False
    silent = np.flatnonzero(is_silent)
    owner, entry = np.concatenate([owner, silent]), np.concatenate([entry, np.full(len(silent), NONE)])
    further, higher = np.diff(owner), np.diff(entry)
    if np.all((further > 0) | ((further == 0) & (higher > 0))):  # as matches come
        return Lots(row, text, draw, owner, entry)
    order = np.lexsort([entry, owner])
    return Lots(row, text, draw, owner[order], entry[order])


def _picked(said: Mentions, text: np.ndarray, uids: list[str], seed: int, stage: str) -> np.ndarray:
    """Of the given texts one per pair, each as likely as the others: that of the smallest draw, of equal ones the
    first. Those draws are others than the ones that decide whether it stays."""
    row, texts = said.row[text], said.text.take(pa.array(text)).to_pylist()
    keys = zip(row.tolist(), texts, strict=True)
    draw = np.fromiter((keyed_uniform(seed, stage, "pick", uids[i], each) for i, each in keys), np.float64, len(text))
    order = np.lexsort([text, draw, row])
    _, first = np.unique(row[order], return_index=True)
    return text[order[first]]
