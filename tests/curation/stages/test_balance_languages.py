"""A t for each language, as MetaCLIP 2 has it: an oracle written to the letter of its two functions."""

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from curation.stages.balance import Balance
from curation.table import captions
from pipeline.draws import keyed_uniform
from tests.helpers.concepts import with_concepts
from tests.helpers.pairs import run_global, same_verdicts

SETTINGS = {"per_language": {"column": "detected", "reference": "en"}}


def spoken(num: int = 900, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)

    def entries() -> list[int]:
        return sorted({int(e) for e in np.minimum(rng.zipf(1.4, rng.integers(0, 5)), 200)})

    pairs = with_concepts([[entries() for _ in range(rng.integers(1, 4))] for _ in range(num)])
    names = rng.choice(["en", "de", "xx", None], captions.explode(pairs).num_rows, p=[0.6, 0.25, 0.05, 0.1])
    return captions.with_fields(pairs, pa.table({"detected": pa.array(names.tolist(), pa.string())}))


def counts_of(pairs: pa.Table) -> dict[str, dict[int, int]]:
    counts: dict[str, dict[int, int]] = {}
    for item in pairs.column("captions").to_pylist():
        for caption in item:
            own = counts.setdefault(caption["detected"] or "", {})
            for entry in caption["concepts"]:
                own[entry] = own.get(entry, 0) + 1
    return {name: own for name, own in counts.items() if own}


def t_to_p(t: float, counts: np.ndarray) -> float:
    return counts[counts < t].sum() / counts.sum()


def p_to_t(p: float, counts: np.ndarray) -> int:
    ordered = np.sort(counts)
    share = np.cumsum(ordered) / np.sum(ordered)
    return ordered[np.abs(share - p).argmin()]


def oracle(pairs: pa.Table, t: float, reference: str = "en") -> list[list[str]]:
    counts = counts_of(pairs)
    of = dict.fromkeys(counts, t)
    if reference in counts:
        p = t_to_p(t, np.array(list(counts[reference].values())))
        of |= {name: p_to_t(p, np.array(list(own.values()))) for name, own in counts.items() if name != reference}
    kept = []
    for uid, item in zip(pairs.column("uid").to_pylist(), pairs.column("captions").to_pylist(), strict=True):
        stays = []
        for caption in item:
            name, miss = caption["detected"] or "", 1.0
            for entry in caption["concepts"]:
                miss *= 1 - of[name] / max(counts[name][entry], of[name])
            if caption["concepts"] and keyed_uniform(0, "balance", uid, caption["text"]) < 1 - miss:
                stays.append(caption["text"])
        kept.append(stays)
    return kept


@pytest.mark.parametrize("t", [1, 3, 20.5, 150, 10_000])
@pytest.mark.parametrize("buckets", [1, 5])
def test_the_kept_are_those_of_the_oracle(t, buckets):
    pairs = spoken()
    found = run_global(Balance(t=t, **SETTINGS), pairs, 0, buckets)
    assert [[c["text"] for c in item] for item in found.captions.to_pylist()] == oracle(pairs, t)


def test_without_a_text_of_the_reference_its_t_serves_all():
    pairs = spoken()
    stage = Balance(t=20, per_language={"reference": "fr"})
    found = run_global(stage, pairs, 0, 3)
    assert [[c["text"] for c in item] for item in found.captions.to_pylist()] == oracle(pairs, 20, "fr")


def test_one_language_alone_is_plain_balance():
    pairs = spoken()
    names = pa.array(["en"] * captions.explode(pairs).num_rows)
    pairs = captions.with_fields(pairs, pa.table({"detected": names}))
    for unit in ("text", "one_text", "pair"):
        plain = run_global(Balance(t=9, unit=unit), pairs, 0, 2)
        assert same_verdicts(plain, run_global(Balance(t=9, unit=unit, **SETTINGS), pairs, 0, 2))


def test_it_takes_t_and_the_language_of_captions():
    with pytest.raises(ValidationError):
        Balance(target_pairs=5, **SETTINGS)
    assert Balance(t=5, **SETTINGS).reads[-1] == "captions.detected"
