"""Schedules of weights: where none of them is above 0."""

from hypothesis import given
from hypothesis import strategies as st

from training.scheduled import first_off, progress_of, value_at

weights_of = st.lists(
    st.sampled_from([0.0, 1.0])
    | st.lists(
        st.tuples(st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 0.7, 1.0]), st.sampled_from([0.0, 0.0, 2.0])),
        min_size=1,
        max_size=4,
    ).map(lambda points: sorted(points, key=lambda point: point[0])),
    min_size=1,
    max_size=3,
)


@given(weights_of, st.integers(1, 40), st.integers(0, 20), st.integers(1, 30))
def test_the_first_step_without_a_weight_is_that_of_looking_at_each(weights, steps, start, length):
    span = range(start, min(start + length, steps))
    each = (step for step in span if sum(value_at(weight, progress_of(step, steps)) for weight in weights) == 0)
    assert first_off(weights, steps, span) == next(each, None)
