"""The distinct texts of pairs and the concept entries they mention: what is counted, and what balancing draws for."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.table.arrow import whole
from curation.table.captions import ROW, explode


class Mentions(NamedTuple):
    """A text that a pair carries twice (as alt and as title, say) is one text: MetaCLIP drops a repeated text of a url.

    row           pair of each text, int64 [text]; texts are in order of pair, then text, wherever they stood
    text          the texts themselves, string [text]
    text_of       number of the text of each caption in the order of captions.explode, int64 [caption]
    owner, entry  number of the text and entry of every match, int64 [match] both, by text, then as concept_match gives
    """

    row: np.ndarray
    text: pa.Array
    text_of: np.ndarray
    owner: np.ndarray
    entry: np.ndarray


def mentions(pairs: pa.Table) -> Mentions:
    flat = explode(pairs)
    rows, texts = flat.column(ROW).to_numpy(), whole(flat.column("text"))
    encoded = texts.dictionary_encode()
    rank = np.empty(len(encoded.dictionary), np.int64)
    rank[pc.sort_indices(encoded.dictionary).to_numpy()] = np.arange(len(rank))
    keys = rows * max(len(rank), 1) + rank[encoded.indices.to_numpy()]
    _, first, text_of = np.unique(keys, return_index=True, return_inverse=True)
    concepts = whole(flat.column("concepts")).take(pa.array(first))
    owner = pc.list_parent_indices(concepts).to_numpy().astype(np.int64)
    entry = concepts.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
    return Mentions(rows[first], texts.take(pa.array(first)), text_of, owner, entry)


def entry_totals(said: Mentions) -> tuple[np.ndarray, np.ndarray]:
    """(entry, number of texts that mention it), int64 both, by entry; a text counts once for each of its pairs."""
    entry, count = np.unique(said.entry, return_counts=True)
    return entry, count.astype(np.int64)
