"""Fields of KEY.json that a term names are columns of their own."""

import pytest

from pipeline.errors import RecipeError
from training.terms.softmax import Softmax
from training.wanted import OWN, Wanted


@pytest.mark.parametrize("name", [*OWN, "a/b", ""])
def test_a_field_of_the_name_of_a_column_of_every_batch_is_refused(name):
    with pytest.raises(RecipeError, match=r"^train\.loss: a term reads the field"):
        Wanted(fields=frozenset({name, "fine"}))


def test_so_it_is_for_weights_and_labels():
    for settings in ({"pair_weight": "id"}, {"target": {"kind": "labels", "field": "key"}}):
        with pytest.raises(RecipeError, match="of KEY.json"):
            Softmax(**settings).wanted()
    assert Softmax(pair_weight="quality").wanted().fields == {"quality"}
