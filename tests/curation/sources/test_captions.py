"""What texts a caption field holds: each with its own source where it names one, else with the field's."""

import pytest

from curation.sources.captions import listed


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("a cat", [("alt", "a cat")]),
        (["a cat", "a dog"], [("alt", "a cat"), ("alt", "a dog")]),
        ({"text": "a cat", "source": "title"}, [("title", "a cat")]),
        ([{"text": "a cat"}, {"text": "a dog", "source": ""}], [("alt", "a cat"), ("alt", "a dog")]),
        ([{"text": "a cat", "source": 5}, {"text": "a dog", "source": ["x"]}], [("alt", "a cat"), ("alt", "a dog")]),
        ([{"text": 5}, {"source": "title"}, 7, None, ["a cat"], True], []),
        (None, []),
    ],
)
def test_texts_and_objects_with_a_text_are_captions_and_all_else_is_none(value, found):
    assert listed(value, "alt") == found
