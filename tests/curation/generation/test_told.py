"""The rates that the report prints add up to all that was asked, every answer once, whoever shares it."""

from hypothesis import given
from hypothesis import strategies as st

from curation.generation.told import sections

reasons = st.dictionaries(
    st.sampled_from(["refusal", "echo", "http_400", "truncated"]), st.tuples(st.integers(1, 10**6), st.integers(0, 99))
)


@given(st.integers(0, 10**6), st.integers(0, 99), reasons, st.integers(0, 9))
def test_shares_are_of_all_distinct_answers_and_pairs_stand_beside_them(used, shared, found, negatives):
    others = {"answered": used + shared, "once:answered": used, "negatives": negatives}
    for name, (once, more) in found.items():
        others |= {name: once + more, f"once:{name}": once}
    [told] = sections({"source": "caption:x", "model": "m"}, {"others": others})
    rows = [row for row in told.rows if row[0] != "negatives"]
    assert told.text == "source: caption:x, model: m"
    assert {row[0]: (row[1], row[3]) for row in rows} == (
        {"used": (used, used + shared)} | {name: (once, once + more) for name, (once, more) in found.items()}
        if used + shared or found
        else {}
    )
    whole = used + sum(once for once, _ in found.values())
    for row in rows:
        assert not whole or abs(float(row[2].rstrip("%")) / 100 - row[1] / whole) < 1e-4
    numbers = [row[1] for row in rows[1:]]
    assert numbers == sorted(numbers, reverse=True)
    assert [row[3] for row in told.rows if row[0] == "negatives"] == ([negatives] if negatives else [])


def test_a_stage_that_counted_nothing_says_whose_captions_they_are():
    [told] = sections({"source": "caption:x"}, {})
    assert told.text == "source: caption:x" and told.rows == () and told.columns == ()
