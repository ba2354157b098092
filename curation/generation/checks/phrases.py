"""What models say in place of an answer or about it, in the languages that they are most used in; orders in texts."""

import functools
import re
from importlib import resources

from curation.generation.checks.asked import Asked
from curation.generation.request import Answer

ORDERS = re.compile(
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
_SENTENCE = re.compile(r"[(\[]|[.!?…:;\n][\"'”’)]*\s+|[。！？।؟\n]\s*|\b(?:but|however|mais|pero|aber|mas|но),? ")
_SORRY = re.compile(
    r"(?:(?:i['’]?m |i am )?(?:so |very )?sorry|apologies|désolée?|lo siento|es tut mir leid|mi dispiace|desculpe|"
    r"извините|抱歉|对不起|對不起|申し訳(?:ありません|ございません)|すみません|ごめんなさい|죄송합니다|미안합니다)\W*$",
    re.IGNORECASE,
)
_ASIDE = re.compile(
    r"(?:\n|[(\[])\s*\**(?:notes?|explanation|reasoning|rationale|changes(?: made)?|breakdown|disclaimer|analysis|"
    r"anmerkung|hinweis|remarque|nota|примечание|注|注意|説明)\**\s*[:：]"
    r"|^\W*(?:thinking|thought process|analysis|reasoning)\s*:"
    r"|^\s*(?:user|human|system|question|instruction|input)\s*:|###\s*(?:response|instruction|input|answer)",
    re.IGNORECASE | re.MULTILINE,
)
_NOTHING = re.compile(
    r"\W*(?:none|n/?a|null|nil|nan|nothing|undefined|not applicable|unknown|"
    r"no (?:caption|description|text|change|answer)s?|aucune?|ninguna?|keine?[rs]?|nessuna?|nenhuma?|"
    r"нет|无|無|没有|なし|없음)\W*$",
    re.IGNORECASE,
)


@functools.cache
def _said_as(name: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """The lines of a file beside this one, as one pattern: for the first sentence, and for any other."""
    names, first, later = dict[str, str](), list[str](), list[str]()
    for line in (resources.files("curation.generation.checks") / name).read_text("utf-8").splitlines():
        if line.startswith("#"):
            continue
        line = re.sub(r"<([A-Z]+)>", lambda found: names[found[1]], line)
        if found := re.fullmatch(r"([A-Z]+) = (.+)", line):
            names[found[1]] = found[2]
        else:
            (later if line.startswith("... ") else first).append(line.removeprefix("... "))
    return re.compile("|".join(first), re.IGNORECASE), re.compile("|".join([*first, *later]), re.IGNORECASE)


def _says(name: str, text: str) -> bool:
    first, any_other = _said_as(name)
    return bool(first.match(text)) or any(any_other.match(text, found.end()) for found in _SENTENCE.finditer(text))


def is_nothing(text: str, answer: Answer, asked: Asked) -> bool:
    return bool(_NOTHING.match(text))


def refuses(text: str, answer: Answer, asked: Asked) -> bool:
    return bool(_SORRY.match(text)) or _says("refusals.txt", text)


def chatters(text: str, answer: Answer, asked: Asked) -> bool:
    """About its answer, or to whoever asked."""
    return bool(_ASIDE.search(answer.text.strip())) or _says("chatter.txt", text)
