"""Pairs whose captions mention given concept entries, and MetaCLIP's two samplers to the letter, in plain Python."""

import random

import numpy as np
import pyarrow as pa

from curation.table.captions import with_fields
from tests.helpers.pairs import pair, pairs_of

Said = tuple[str, list[int]]  # a text and the entries it mentions


def mentioning(pairs: list[list[Said]]) -> pa.Table:
    """One pair p0, p1, ... per item, one caption per (text, entries), sorted by uid."""
    table = pairs_of(*[pair(f"p{i}", *(text for text, _ in item)) for i, item in enumerate(pairs)])
    order = [int(url.rsplit("/p", 1)[1]) for url in table.column("url").to_pylist()]
    flat = [entries for i in order for _, entries in pairs[i]]
    return with_fields(table, pa.table({"concepts": pa.array(flat, pa.list_(pa.int32()))}))


def with_concepts(lists: list[list[list[int]]]) -> pa.Table:
    """As `mentioning`; the texts of a pair all differ."""
    return mentioning([[(f"text {k}", entries) for k, entries in enumerate(item)] for item in lists])


def skewed_texts(num: int, seed: int = 0, entries: int = 4000) -> list[list[int]]:
    """Entries of `num` texts: a head of few and a long tail, entry 0 the most frequent; some texts mention nothing."""
    rng = np.random.default_rng(seed)
    shares = 1.0 / (8 + np.arange(1, entries + 1)) ** 2
    sizes = rng.integers(0, 6, num)
    drawn = rng.choice(entries, sizes.sum(), p=shares / shares.sum())
    return [sorted(set(each.tolist())) for each in np.split(drawn, np.cumsum(sizes)[:-1])]


def counted(urls: list[list[Said]]) -> dict[int, int]:
    """Entry -> number of texts; a repeated text of a url is dropped before it is counted."""
    counts: dict[int, int] = {}
    for texts in urls:
        for entries in dict(texts).values():
            for entry in entries:
                counts[entry] = counts.get(entry, 0) + 1
    return counts


def metaclip(urls: list[list[Said]], t: float, rng: random.Random, one_text: bool = False) -> list[list[Said]]:
    """What MetaCLIP keeps of each url: version 1, or with `one_text` version 2 (worldwide).

    One draw per entry and text, the text stays at the first draw below p_e; version 2 first picks one of the texts that
    match. Texts without a match never get in.
    """
    counts = counted(urls)
    kept = []
    for texts in urls:
        matching = [(text, entries) for text, entries in dict(texts).items() if entries]
        if one_text and matching:
            matching = [rng.choice(matching)]
        staying = []
        for text, entries in matching:
            for entry in entries:
                if rng.random() < t / max(counts[entry], t):
                    staying.append((text, entries))
                    break
        kept.append(staying)
    return kept
