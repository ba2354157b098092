"""The rates that the report prints add up to all that was asked."""

from hypothesis import given
from hypothesis import strategies as st

from curation.generation.told import sections

reasons = st.dictionaries(st.sampled_from(["refusal", "echo", "http 400", "truncated"]), st.integers(1, 10**6))


@given(st.integers(0, 10**6), reasons, st.integers(0, 9))
def test_shares_are_of_all_answers_and_what_was_sent_again_is_none(used, found, again):
    others = {"answered": used, "sent again": again, **found}
    [told] = sections({"source": "caption:x", "model": "m"}, {"others": others})
    rows = [row for row in told.rows if row[0] != "sent again"]
    assert told.text == "source: caption:x, model: m"
    assert {row[0]: row[1] for row in rows} == ({"used": used, **found} if used or found else {})
    whole = used + sum(found.values())
    for row in rows:
        assert abs(float(row[2].rstrip("%")) / 100 - row[1] / whole) < 1e-4
    numbers = [row[1] for row in rows[1:]]
    assert numbers == sorted(numbers, reverse=True)
    assert [row[1:] for row in told.rows if row[0] == "sent again"] == ([(again, "")] if again else [])


def test_a_stage_that_counted_nothing_says_whose_captions_they_are():
    [told] = sections({"source": "caption:x"}, {})
    assert told.text == "source: caption:x" and told.rows == () and told.columns == ()
