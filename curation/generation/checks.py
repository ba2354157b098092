"""What is wrong with an answer: each is made plain first, then judged; what fails is dropped with a reason.

empty          nothing is left           refusal         the model says that it cannot or will not
truncated      cut off by max_tokens     echo            the prompt's own words come back
too_short, too_long                      copied_example  an example of the prompt comes back
repetition     it goes round in circles  injection       it does what a text from the web has told it to
url            an address nobody gave    markup          HTML, a list, code, control characters
language       another one than asked
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pydantic import Field

from curation.generation.request import Answer
from curation.methods.concepts.matcher import words_of
from pipeline.settings import Settings

Detect = Callable[[str], tuple[str | None, float]]
"""A text -> its language as an ISO code, None where nobody can tell, and how sure that is."""


class Asked(NamedTuple):
    """What an answer is held against. data: the texts that went into the prompt; said: the prompt without them."""

    data: Sequence[str]
    said: str
    targets: frozenset[str]
    language: str


class CheckSettings(Settings):
    """Every one can be switched off."""

    min_words: int = Field(default=2, ge=0, description="characters where a script puts no space between words")
    max_words: int = Field(default=100, ge=1)
    refusal: bool = True
    truncated: bool = True
    echo: bool = True
    copied_example: bool = True
    repetition: bool = True
    injection: bool = True
    url: bool = True
    markup: bool = True
    language: bool = Field(default=True, description="where the stage says which one it wants")


def judged(answer: Answer, asked: Asked, settings: CheckSettings, detect: Detect) -> tuple[str, str | None]:
    """(the answer made plain, why it is dropped or None)."""
    text = made_plain(answer.text)
    if answer.failed:
        return text, answer.failed
    if not text:
        return text, "empty"
    for reason, check in _CHECKS.items():
        if getattr(settings, reason) and check(text, answer, asked):
            return text, reason
    words = words_of(text)
    if len(words) < settings.min_words:
        return text, "too_short"
    if len(words) > settings.max_words:
        return text, "too_long"
    if settings.language and asked.language and _is_other(text, asked.language, detect):
        return text, "language"
    return text, None


_HEAD = re.compile(
    r"^(?:(?:sure(?: thing)?|certainly|absolutely|of course|okay|ok|here you go)\s*[:!.,]\s*"
    r"|here(?: is| are|['’]s)\b[^:\n]{0,60}\b(?:caption|description|sentence|answer|translation|rewrite|version|list)s?"
    r"\b[^:\n]{0,40}:\s*)+",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"^(?:new |rewritten |revised |image |final |short )?"
    r"(?:caption|description|answer|output|translation|rewrite)s?\s*[:：]\s*",
    re.IGNORECASE,
)
_FENCED = re.compile(r"^```\w*\n(.*?)\n?```$", re.DOTALL)
_QUOTES = [(both[0], both[1]) for both in ('""', "''", "“”", "„“", "„”", "«»", "「」", "『』", "‘’")]


def made_plain(text: str) -> str:
    """Without what models put round an answer: code fences, JSON, "Caption:", quotes, empty lines; one line."""
    text = text.strip()
    if found := _FENCED.match(text):
        text = found[1].strip()
    if text.startswith("{"):
        text = _of_json(text)
    before = ""
    while text != before:
        before = text
        text = _LABEL.sub("", _HEAD.sub("", text)).strip()
        for left, right in _QUOTES:
            if len(text) > 1 and text[0] == left and text[-1] == right and left not in text[1:-1]:
                text = text[1:-1].strip()
    return " ".join(text.split())


def _of_json(text: str) -> str:
    """The one text of an object."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    texts = [value for value in found.values() if isinstance(value, str)] if isinstance(found, dict) else []
    return texts[0].strip() if len(texts) == 1 else text


def lines_of(text: str) -> list[str]:
    """The items of an answer that is a list, without bullets and numbers."""
    text = text.strip()
    if found := _FENCED.match(text):
        text = found[1]
    items = (re.sub(r"^\s*(?:[-*•–]|\(?\d{1,2}[.):])\s+", "", line).strip() for line in text.splitlines())
    return [item for item in items if item and not item.endswith(":")]


_REFUSALS = re.compile(
    r"^(?:(?:i['’]?m|i am|we['’]?re|we are) (?:so |very |really )?(?:sorry|afraid)\b[,.!]?\s*(?:but|i\b|that\b|$)"
    r"|(?:sorry|apologies|unfortunately|i apologi[sz]e)[^.]{0,40}\b(?:i|we) "
    r"(?:can(?:not|['’]t| not)|(?:am|['’]m) (?:not able|unable)|do not|don['’]t)\b"
    r"|i(?: can(?:not|['’]t| not)|(?: am|['’]m) (?:not able|unable) to| won['’]t| will not) "
    r"(?:help|assist|see|view|access|describe|provide|comply|fulfil|process|identify|generate|create|write|do that"
    r"|complete|answer)"
    r"|i (?:do not|don['’]t) (?:see|have access|have the ability|feel comfortable)\b"
    r"|as an? (?:ai|artificial intelligence|(?:large )?language model|(?:\w+ )?assistant)\b[^.\n]{0,60}\b(?:i|my)\b"
    r"|there is no (?:image|picture|caption|text) (?:provided|attached|given)"
    r"|no (?:image|picture) (?:was|is) (?:provided|attached)"
    r"|please (?:provide|upload|share|attach) (?:the|an?|your) (?:image|picture|caption|text)"
    r"|(?:je suis )?désolée?,? |je ne (?:peux|suis) pas|je ne vois (?:pas|aucune)"
    r"|lo siento,? |no puedo (?:ayudar|ver|describir|proporcionar|hacer)|lo lamento,? "
    r"|es tut mir leid|(?:tut mir leid|entschuldigung),? (?:ich|aber)"
    r"|ich kann (?:das|dieses|diese|dir|ihnen|kein|keine)\b[^.]{0,40}\bnicht|leider kann ich\b"
    r"|mi dispiace,? |non posso (?:aiutar|veder|descriver)"
    r"|(?:sinto muito|desculpe),? |não (?:posso|consigo) (?:ajudar|ver|descrever)"
    r"|извините|к сожалению, я|я не могу (?:помочь|увидеть|описать|видеть)|przykro mi|nie mogę (?:pomóc|opisać)"
    r"|抱歉|对不起|對不起|很遗憾|我(?:无法|不能|無法)|作为(?:一个|一名)?(?:ai|人工智能)|申し訳|すみません|ごめんなさい|죄송|미안)",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"\b(?:https?://|www\.)[^\s<>\"')]+", re.IGNORECASE)
_MARKUP = re.compile(
    r"<[/!]?[a-zA-Z][^<>]*>|```|^\s{0,3}#{1,6} |\[[^\]]+\]\([^)]+\)|\*\*[^*]+\*\*|<data-", re.MULTILINE
)
_LOOP = re.compile(r"(?=\S)(.{1,60}?)(?:\s*\1){4,}", re.DOTALL)
_ORDERS = re.compile(
    r"(?:ignore|disregard|forget|override|skip)\b[^.\n]{0,40}"
    r"\b(?:instruction|prompt|rule|direction|above|previous|prior|everything|all)"
    r"|(?:system|developer) (?:prompt|message|note)|new (?:instruction|task|rule)s?\b"
    r"|you (?:are|must|will|should) (?:now|instead|only)\b"
    r"|(?:instead|only|just|simply) (?:answer|respond|reply|output|say|write|print|return)\b"
    r"|(?:answer|respond|reply|output|say|print|return|write) "
    r"(?:only|exactly|with|the (?:word|phrase|following)|just|back)\b"
    r"|(?:ignorez|oubliez|répondez|ignoriere|vergiss|antworte|ignora|olvida|responde|игнорируй|ответь|忽略|无视|無視|回答只)",
    re.IGNORECASE,
)


def _grams(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(words[at : at + size]) for at in range(len(words) - size + 1)]


def _echoes(text: str, answer: Answer, asked: Asked) -> bool:
    mine = _grams(words_of(text), 4)
    if not mine:
        return False
    data = set(_grams(words_of(" ".join(asked.data)), 4))
    said = set(_grams(words_of(asked.said), 4)) - data
    return sum(gram in said for gram in mine) >= 0.4 * len(mine)


def _repeats(text: str, answer: Answer, asked: Asked) -> bool:
    for found in _LOOP.finditer(text):
        if len(found[0]) >= 12 and any(map(str.isalnum, found[1])):
            return True
    words = words_of(text)
    return len(words) >= 20 and len(set(words)) < 0.3 * len(words)


def _obeys(text: str, answer: Answer, asked: Asked) -> bool:
    """A text of the web gives orders, and half of the answer or more stands behind them."""
    mine = words_of(text)
    for each in asked.data:
        if found := _ORDERS.search(each):
            behind = set(words_of(each[found.start() :]))
            if sum(word in behind for word in mine) >= 0.5 * len(mine):
                return True
    return False


def _is_example(text: str, answer: Answer, asked: Asked) -> bool:
    plain = " ".join(words_of(text))
    return plain in asked.targets and all(plain != " ".join(words_of(each)) for each in asked.data)


def _has_new_address(text: str, answer: Answer, asked: Asked) -> bool:
    data = " ".join(asked.data)
    return any(found not in data for found in _ADDRESS.findall(text))


def _has_markup(text: str, answer: Answer, asked: Asked) -> bool:
    return bool(_MARKUP.search(text)) or any(not char.isprintable() and char != " " for char in text if ord(char) < 160)


def _is_other(text: str, language: str, detect: Detect) -> bool:
    """By its script; by its words only where it is long enough to tell."""
    letters = [char for char in text if char.isalpha()]
    foreign = sum(not _is_latin(char) for char in letters)
    if language in _NOT_LATIN and len(letters) > 15 and not foreign:
        return True
    if language not in _NOT_LATIN | _EITHER and foreign > 0.3 * len(letters):
        return True
    if sum(map(str.isalpha, text)) < 16 and text.isascii():
        return False
    found, score = detect(text)
    alike = next((group for group in _ALIKE if language in group), {language})
    return found is not None and found not in alike and score >= 0.5


_NOT_LATIN = frozenset(
    "ab am ar as ba be bg bn bo ce ckb cv dv dz el fa gu he hi hy ja ka km kn ko ky lo mk ml mn mr my ne or os pa ps "
    "ru sa sd si ta te tg th ti tt ug uk ur wuu yi yue zh".split()
)
_EITHER = frozenset("az kk ku sh sr tk uz".split())
"""Languages written in Latin letters and in others."""
_ALIKE = ({"bs", "hr", "sh", "sr"}, {"nb", "nn", "no"}, {"wuu", "yue", "zh"}, {"id", "ms"})
"""Those that fastText cannot hold apart in one sentence, or has under another code."""


def _is_latin(char: str) -> bool:
    return ord(char) < 0x0250 or 0x1E00 <= ord(char) < 0x1F00


_CHECKS: dict[str, Callable[[str, Answer, Asked], bool]] = {
    "refusal": lambda text, answer, asked: bool(_REFUSALS.match(text)),
    "truncated": lambda text, answer, asked: answer.finish == "length",
    "injection": _obeys,
    "echo": _echoes,
    "copied_example": _is_example,
    "repetition": _repeats,
    "url": _has_new_address,
    "markup": _has_markup,
}
