"""An answer without what models put round it."""

import html
import json
import re

from curation.generation.checks.characters import seen_alone

_THOUGHTS = re.compile(r"^\s*<(think|thinking|thought|reasoning)>.*?</\1>|^[^<]*</think>", re.DOTALL | re.IGNORECASE)
_ENDS = re.compile(r"(?:\s*(?:<[|｜][\w▁ ]{1,40}[|｜]>|</s>|<eos>|<end_of_turn>|\[/INST\]))+\s*$", re.IGNORECASE)
_TEXTS = (
    r"(?:caption|description|sentence|answer|translation|rewrite|rewriting|version|list|option|result|output|response|"
    r"paraphrase|alternative|suggestion|rephrasing|label|"
    r"légende|description|traduction|réponse|descripción|leyenda|traducción|respuesta|bildunterschrift|bildbeschreibung|"
    r"beschreibung|übersetzung|antwort|didascalia|descrizione|traduzione|risposta|legenda|descrição|tradução|resposta|"
    r"bijschrift|beschrijving|vertaling|bildtext|beskrivning|översättning|opis|podpis|tłumaczenie|описание|подпись|"
    r"перевод|ответ|açıklama|çeviri|altyazı)s?"
)
_HEAD = re.compile(
    r"^(?:(?:sure(?: thing)?|certainly|absolutely|gladly|here you go)\s*[:!.,]+\s*"
    r"|(?:of course|okay|ok|alright|great|got it|no problem|understood|bien sûr|claro|natürlich|gerne|certo|конечно)"
    r"[ \t]*[:!.,]+(?=[ \t]*\n|\s*(?:here|below|voici|aquí|hier|ecco|aqui|вот)\b)\s*"
    r"|(?:here(?: is| are|['’]s)(?! (?:some|two|three|four|five|several|a few|multiple|\d+)\b)|below is|this is|voici|"
    r"aquí (?:está|tienes?)|hier ist|ecco|aqui está|вот|hier is|"
    r"(?:a|one) (?:possible|good|suitable|fitting|potential))\b"
    rf"[^:：\n]{{0,60}}\b{_TEXTS}\b[^:：\n]{{0,60}}[:：]\s*"
    rf"|(?:the|my) (?:\w+ )?{_TEXTS} (?:could|would|might|can|should) be\s*[:：]\s*"
    r"|(?:以下是|这是|這是|以下は|これは|다음은)[^:：\n]{0,30}[:：]\s*)+",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"^[*_#\s]*(?:(?:new |rewritten |revised |image |final |short |long |alt |(?:english|german|french|spanish) )?"
    rf"{_TEXTS}|assistant|alt[- ]text|描述|说明|標題|标题|翻译|翻譯|译文|回答|キャプション|説明|翻訳|캡션|설명|번역)"
    r"\**\s*[:：]\**\s*",
    re.IGNORECASE,
)
_FENCED = re.compile(r"^(`{3,}|~{3,})(?:\w*\n)?(.*?)\n?\1$", re.DOTALL)
_TAGGED = re.compile(r"^<(caption|description|answer|output|result|response|translation|text|alt|p)>(.*)</\1>$",
                     re.DOTALL | re.IGNORECASE)  # fmt: skip
_ENTITY = re.compile(r"&(?:#\w{1,8}|\w{2,32});")
_BULLET = re.compile(r"^[-*•–>] +(?=[^\W\d_])")
_COUNTED = re.compile(r"\s*[(\[]\d{1,3} (?:words|characters|words? count|wörter|mots|palabras)[)\]]$", re.IGNORECASE)
_AROUND = [(each[: len(each) // 2], each[len(each) // 2 :]) for each in (
    '""', "''", "``", "****", "**", "____", "“”", "„“", "„”", "«»", "»«", "‹›", "「」", "『』", "‘’", "《》", "””",
)]  # fmt: skip
_KEYS = ("caption", "text", "answer", "description", "translation", "rewrite", "output", "response", "result")


def made_plain(text: str) -> str:
    """One line, without what models put round it: thoughts, code fences, JSON, "Caption:", quotes, marks of emphasis
    and of the end; without characters that show nothing."""
    text = _ENDS.sub("", without_thoughts(seen_alone(text))).strip()
    text = _ENTITY.sub(lambda found: html.unescape(found[0]), text)
    before = ""
    while text != before:
        before = text
        if found := _FENCED.match(text) or _TAGGED.match(text):
            text = found[2].strip()
        if text[:1] in ("{", "["):
            text = _of_json(text)
        text = _LABEL.sub("", _HEAD.sub("", text)).strip()
        if "\n" not in text:
            text = _COUNTED.sub("", _BULLET.sub("", text))
        for left, right in _AROUND:
            inner = text[len(left) : -len(right)]
            if text == left + inner + right and left not in inner:
                text = inner.strip()
    return " ".join(seen_alone(text).split())  # what was written as an entity, or in JSON, too


def without_thoughts(text: str) -> str:
    """Without what a model thought aloud before its answer."""
    return _THOUGHTS.sub("", text)


def _of_json(text: str) -> str:
    """The one text of an object, or the one that is named as an answer is; of a list of one, that."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    while isinstance(found, list) and len(found) == 1:
        found = found[0]
    if isinstance(found, dict):
        texts = [value for value in found.values() if isinstance(value, str)]
        named = [found[key] for key in _KEYS if isinstance(found.get(key), str)]
        found = texts[0] if len(texts) == 1 else named[0] if named else None
    return found.strip() if isinstance(found, str) else text


def lines_of(text: str) -> list[str]:
    """The items of an answer that is a list, of a JSON list too, without bullets and numbers."""
    text = without_thoughts(text).strip()
    if found := _FENCED.match(text):
        text = found[2].strip()
    if text.startswith("["):
        try:
            items = json.loads(text)
        except (ValueError, RecursionError):
            items = None
        if isinstance(items, list) and all(isinstance(each, str) for each in items):
            text = "\n".join(items)
    items = (re.sub(r"^\s*(?:[-*•–]|\(?\d{1,2}[.):])\s+", "", line).strip() for line in text.splitlines())
    return [item for item in items if item and not item.endswith((":", "："))]
