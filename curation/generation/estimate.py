"""What a request is likely to cost before anybody has counted its tokens: for the dry run, and for reservations."""

from curation.generation.request import Answer, Request

BYTES_PER_TOKEN = 4
"""Of UTF-8: about what vocabularies of 100,000 words and more need for English, fewer for most other languages."""
IMAGE_TOKENS = 1_000
"""Of one image: models that cut it into patches count some 250 (336 px) to 1,400 (a megapixel)."""
MESSAGE_TOKENS = 8
"""What the form of a chat adds to each message."""


def tokens_of(request: Request) -> int:
    """Tokens of the prompt, estimated: a server counts others, by its own vocabulary."""
    words = sum(-(-len(each.text.encode("utf-8", "replace")) // BYTES_PER_TOKEN) for each in request.messages)
    images = sum(len(each.images) for each in request.messages)
    return words + images * IMAGE_TOKENS + len(request.messages) * MESSAGE_TOKENS


def counted(request: Request, answer: Answer) -> tuple[int, int, bool]:
    """(tokens in, out, whether they are estimated) of an answer: what the server counted, or else what they may be."""
    if answer.failed and not answer.text:  # refused: nothing was made
        return answer.tokens_in, answer.tokens_out, False
    tokens_in = answer.tokens_in or tokens_of(request)
    tokens_out = answer.tokens_out or -(-len(answer.text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)
    return tokens_in, tokens_out, (tokens_in, tokens_out) != (answer.tokens_in, answer.tokens_out)
