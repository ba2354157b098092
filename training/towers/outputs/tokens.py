"""Every patch and every word in the space of the pooled features: what terms ask that compare pairs token by token.

Letters: N rows, P patches, L tokens of a text, W width of a tower, D features.
"""

from typing import Any

from torch import Tensor, nn

PATCHES, WORDS, WORD_MASK = "patches", "words", "word_mask"


def project_tokens(image: Any, text: Any) -> None:
    """From now on towers of open_clip give projected tokens where they are asked for any (`with_tokens`).

    By hooks, which run while ZeRO-3 still holds the towers' parameters together, and before its own.
    """
    if hasattr(image, "ln_post") and hasattr(image, "proj"):
        image.register_forward_hook(_project_patches)
    if hasattr(text, "ln_final") and hasattr(text, "text_projection"):
        text.register_forward_hook(_project_words)


def with_tokens(tower: Any, given: Tensor, asked: bool) -> tuple[Tensor, Tensor]:
    """(pooled features, tokens) of a tower; no tokens (an empty tensor) where none are asked for, at no cost."""
    if hasattr(tower, "output_tokens"):
        tower.output_tokens = asked
    found = tower(given)
    return found if asked else (found, found[:0])


def word_mask(tokens_NL: Tensor) -> Tensor:
    """float [N, L], 1 up to the last token that is not 0: words from the begin to the end token, without the padding.

    A 0 among the words is one ("!" of open_clip's tokenizer). The first token counts in any case.
    """
    behind_NL = (tokens_NL != 0).flip(1).cumsum(1).flip(1)
    behind_NL[:, 0] += 1
    return (behind_NL > 0).float()


def _project_patches(tower: Any, _: Any, output: Any) -> Any:
    """Normalised as the pooled token is, also where the tower itself does that behind its pooling."""
    if not isinstance(output, tuple):
        return output
    pooled_ND, patch_NPW = output
    patch_NPW = tower.ln_post(patch_NPW) if tower.final_ln_after_pool else patch_NPW
    return pooled_ND, patch_NPW @ tower.proj


def _project_words(tower: Any, _: Any, output: Any) -> Any:
    if not isinstance(output, tuple):
        return output
    pooled_ND, word_NLW = output
    projection = tower.text_projection
    if projection is None:
        return pooled_ND, word_NLW
    return pooled_ND, projection(word_NLW) if isinstance(projection, nn.Linear) else word_NLW @ projection
