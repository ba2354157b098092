"""Tokens are estimated from what is sent: more text and more images never cost less."""

from hypothesis import given
from hypothesis import strategies as st

from curation.generation.estimate import IMAGE_TOKENS, tokens_of
from curation.generation.request import Message, Request

texts = st.text(max_size=200)


@given(st.lists(st.tuples(texts, st.integers(0, 3)), max_size=4), texts)
def test_more_is_never_cheaper_and_images_have_their_price(parts, more):
    request = Request(tuple(Message("user", text, (b"x",) * images) for text, images in parts), "k")
    longer = Request((*request.messages, Message("user", more)), "k")
    assert tokens_of(longer) > tokens_of(request) - 1 and tokens_of(longer) - tokens_of(request) >= len(more) / 4
    images = sum(images for _, images in parts)
    bare = Request(tuple(Message("user", text) for text, _ in parts), "k")
    assert tokens_of(request) - tokens_of(bare) == images * IMAGE_TOKENS


def test_an_english_sentence_is_about_as_many_tokens_as_words_and_a_third():
    text = "a small brown dog with a red collar runs over a wet meadow towards an old wooden bridge " * 20
    assert 1.0 < tokens_of(Request((Message("user", text),), "k")) / len(text.split()) < 1.6
