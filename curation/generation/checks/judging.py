"""What is wrong with an answer: each is made plain first, then judged; what fails is dropped with a reason.

empty      nothing is left                  nothing         "none", where there is nothing to say
characters control, private, broken ones    refusal         the model says that it cannot or will not
truncated  cut off by max_tokens            chatter         it speaks about its answer, or to whoever asked
too_short, too_long                         copied_example  an example of the prompt comes back
repetition it goes round in circles         echo            the prompt's own words come back
url        an address nobody gave           injection       it does what a text from the web has told it to
markup     HTML, JSON, a list, code         language        another one than asked
unchanged, rewritten  what was to be made wrong in one thing is as it was, or another text
"""

from dataclasses import replace

from pydantic import Field

from curation.generation.checks.addresses import has_new_address
from curation.generation.checks.asked import Asked, Check, Detect
from curation.generation.checks.characters import is_broken
from curation.generation.checks.copies import echoes, is_example, is_rewritten, is_unchanged, obeys
from curation.generation.checks.loops import repeats
from curation.generation.checks.markup import has_markup
from curation.generation.checks.phrases import chatters, is_nothing, refuses
from curation.generation.checks.plain import made_plain, without_thoughts
from curation.generation.checks.tongues import is_other
from curation.generation.request import Answer
from curation.methods.concepts.matcher import words_of
from pipeline.settings import Settings


class CheckSettings(Settings):
    """Every one can be switched off."""

    min_words: int = Field(default=2, ge=0, description="characters where a script puts no space between words")
    max_words: int = Field(default=100, ge=1)
    nothing: bool = True
    characters: bool = True
    refusal: bool = True
    truncated: bool = True
    chatter: bool = True
    echo: bool = True
    copied_example: bool = True
    repetition: bool = True
    injection: bool = True
    url: bool = True
    markup: bool = True
    edit: bool = Field(default=True, description="of negatives that a prompt makes of a caption: unchanged, rewritten")
    language: bool = Field(default=True, description="where the stage says which one it wants")


_CHECKS: dict[str, Check] = {
    "nothing": is_nothing,
    "characters": lambda text, answer, asked: is_broken(answer.text) or is_broken(text),
    "refusal": refuses,
    "truncated": lambda text, answer, asked: answer.finish == "length",
    "injection": obeys,
    "echo": echoes,
    "chatter": chatters,
    "copied_example": is_example,
    "repetition": repeats,
    "markup": has_markup,
    "url": has_new_address,
    "unchanged": is_unchanged,
    "rewritten": is_rewritten,
}
_SETTING = {"unchanged": "edit", "rewritten": "edit"}
"""Of checks that are switched off together."""


def judged(answer: Answer, asked: Asked, settings: CheckSettings, detect: Detect) -> tuple[str, str | None]:
    """(the answer made plain, why it is dropped or None)."""
    text = made_plain(answer.text)
    if answer.failed:
        return text, answer.failed
    if not text:
        return text, "empty"
    answer = replace(answer, text=without_thoughts(answer.text))
    for reason, check in _CHECKS.items():
        if getattr(settings, _SETTING.get(reason, reason)) and check(text, answer, asked):
            return text, reason
    words = words_of(text)
    if len(words) < settings.min_words:
        return text, "too_short"
    if len(words) > settings.max_words:
        return text, "too_long"
    if settings.language and asked.language and is_other(text, asked.language, detect):
        return text, "language"
    return text, None
