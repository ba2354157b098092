"""Draws are a function of their keys, one by one or all at once."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.draws import keyed_uniform, keyed_uniforms

WORDS = st.text(max_size=12)


@given(st.integers(0, 2**63), st.lists(st.tuples(WORDS, WORDS), max_size=9))
def test_draws_of_many_are_those_of_each(seed, keys):
    uids, texts = [uid for uid, _ in keys], [text for _, text in keys]
    assert keyed_uniforms(seed, "stage", uids).tolist() == [keyed_uniform(seed, "stage", uid) for uid in uids]
    both = keyed_uniforms(seed, "stage", uids, texts)
    assert both.tolist() == [keyed_uniform(seed, "stage", uid, text) for uid, text in keys]
    assert all(0 <= draw < 1 for draw in both)
