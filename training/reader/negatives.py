"""Hard negatives of a pair: texts that say what its picture does not show, for losses that want such."""

from typing import Any

from pipeline.contract.pairs import negatives_problem
from pipeline.draws import keyed_uniform


def draw_negatives(meta: dict[str, Any], caption: str, most: int, seed: int, epoch: int, uid: str) -> list[str]:
    """At most `most` different texts of the KEY.json `meta`, for the `caption` that the step uses: those made from that
    caption and those made from none. A text that is a caption of the pair is none. Which of them, and in what order, is
    a keyed draw of (seed, epoch, uid, text): a larger `most` only adds."""
    if not most or not meta.get("negatives") or negatives_problem(meta):  # of tars that nobody vouches for
        return []
    true = {each["text"] for each in meta["captions"]}
    texts = {each["text"] for each in meta["negatives"] if (each.get("of") or caption) == caption} - true
    return sorted(texts, key=lambda text: (keyed_uniform(seed, "negative", epoch, uid, text), text))[:most]
