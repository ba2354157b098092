"""The policy `one_synthetic`."""

from hypothesis import given
from hypothesis import strategies as st

from tests.training.reader.captions.test_policy import any_captions, close, exact_shares, written_by_a_model
from training.reader.captions.one_synthetic import OneSynthetic


@given(any_captions, st.integers(0, 8))
def test_the_synthetic_ones_share_their_share_and_each_sort_stands_in_for_the_other(captions, eighths):
    written = [written_by_a_model(each["source"]) for each in captions]
    number, share = sum(written), eighths / 8
    if number in (0, len(captions)):
        expected = [1 / len(captions)] * len(captions)
    else:
        expected = [share / number if each else (1 - share) / (len(captions) - number) for each in written]
    assert close(exact_shares(OneSynthetic(share=share), captions), expected)


def test_the_share_may_change_over_the_run():
    captions = [{"text": "a", "source": "alt"}, {"text": "b", "source": "caption:x"}]
    policy = OneSynthetic(share=[(0.0, 0.0), (0.5, 1.0)])
    assert [exact_shares(policy, captions, at)[1] for at in (0, 0.25, 0.5, 1)] == [0, 0.5, 1, 1]
