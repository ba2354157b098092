"""The policy `first_then`."""

from hypothesis import given
from hypothesis import strategies as st

from tests.training.reader.captions.test_policy import any_captions, close, exact_shares, written_by_a_model
from training.reader.captions.first_then import FirstThen

KEYS = ["original", "synthetic", "alt", "caption", "caption:b", "rewrite"]


def fits(source: str, key: str) -> bool:
    sort = "synthetic" if written_by_a_model(source) else "original"
    return key in (source, source.split(":")[0], sort)


@given(any_captions, st.lists(st.sampled_from(KEYS), max_size=3), st.lists(st.sampled_from(KEYS), max_size=3))
def test_the_most_wanted_source_that_a_pair_has_is_used_before_and_after(captions, first, then):
    policy = FirstThen(first=first, then=then, at=0.5)
    for progress, wanted in ((0.0, first), (0.49, first), (0.5, then), (1.0, then)):
        found = [[fits(each["source"], key) for each in captions] for key in wanted]
        best = next((each for each in found if any(each)), [at == 0 for at in range(len(captions))])
        assert close(exact_shares(policy, captions, progress), [each / sum(best) for each in best])
