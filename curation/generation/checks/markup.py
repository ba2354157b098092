"""Marks of formats, of chat templates and of blanks that were to be filled in; lists, where one line is asked for."""

import re

from curation.generation.checks.asked import Asked
from curation.generation.request import Answer

_MARKS = (
    r"<[/!]?[a-zA-Z][^<>]*>",  # HTML, the fence of the data
    r"<[|｜][^|｜\n]{0,40}[|｜]>|\[/?INST\]|\bdata-[0-9a-f]{8}\b",  # what a server takes for its own, and we
    r"```|^\s{0,3}#{1,6} |!?\[[^\]]+\]\([^)]+\)|\*\*[^*]+\*\*|__[^_]+__|\|\s*:?-{2,}",  # Markdown
    r"\[/?(?:b|i|u|url|img)\]",
    r"[\[{]\s*[\"'][\w ]+[\"']\s*:|[\"']\s*[}\]]\s*$|\\(?:n|u[0-9a-f]{4}|\")",  # JSON
    r"\\(?:boxed|text|textbf|frac)\{|\{\{|\}\}",
    r"[\[<{](?:insert|your|add|describe|name of|image|caption|description|placeholder|text)\b[^\]>}]{0,40}[\]>}]",
)
_MARKUP = re.compile("|".join(_MARKS), re.MULTILINE | re.IGNORECASE)
_MAY_HAVE = re.compile(r"[<>\[\]{}\\#*_|`]|\bdata-", re.IGNORECASE)
_ITEM = re.compile(r"^\s*(?:[-*•–]|\(?\d{1,2}[.):]|\**(?:option|version|caption) \w{1,2}\**\s*[:.)])\s+\S", re.I | re.M)


def has_markup(text: str, answer: Answer, asked: Asked) -> bool:
    if _MAY_HAVE.search(text) and _MARKUP.search(text):
        return True
    return "\n" in answer.text.strip() and len(_ITEM.findall(answer.text)) > 1
