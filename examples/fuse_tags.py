"""A captioner without a model, for the stage `generate`: one caption of a pair's titles, its tags and its address.

    - {kind: generate, name: fused, role: rewrite,
       backend: {kind: function, function: "examples.fuse_tags:fuse", reads: [url, texts]}}

It knows nothing that the pair does not say itself; it says it in one way, in whatever way it was said.
"""

import re
from typing import Any
from urllib.parse import unquote, urlsplit

_HEAD = re.compile(r"^(?:clipart by [^-]+ - |part of (?:the )?)", re.IGNORECASE)
_ASIDE = re.compile(r"\(([^()]*)\)")
_NOISE = re.compile(r"(?:hash\()?0x[0-9a-f]+\)?|\b(?:mon|tue|wed|thu|fri|sat|sun) [a-z]{3}\b|[\d:]+", re.IGNORECASE)
_WORDS = re.compile(r"[^\W\d_]{3,}")
_MOST_TAGS = 6
_SAYS_NOTHING = {"images", "image", "static", "media", "files", "unsorted", "openclipart", "icon", "icons", "theme"}


def fuse(rows: list[dict[str, Any]]) -> list[list[str]]:
    """At most one caption for each row: {"url", "texts"}."""
    return [_fused(row["url"], row["texts"]) for row in rows]


def _fused(url: str, texts: list[str]) -> list[str]:
    titles, tags = [], []
    for text in texts:
        text = _HEAD.sub("", _NOISE.sub(" ", text.replace("_", " ")))
        tags += [tag for aside in _ASIDE.findall(text) for tag in aside.split()]
        title, *rest = _ASIDE.sub(" ", text).split(",")
        titles.append(" ".join(title.split()))
        tags += [tag.strip() for tag in rest]
    *folders, name = unquote(urlsplit(url).path).replace("_", " ").split("/")[1:]
    tags += [re.split(r"[-.\d]", name)[0].strip(), *reversed(folders)]
    title = max(titles, key=len, default="")
    said, kept = {word.casefold() for word in _WORDS.findall(title)}, []
    for tag in tags:
        words = {word.casefold() for word in _WORDS.findall(tag)}
        if words and not words <= said | _SAYS_NOTHING:
            kept.append(tag)
            said |= words
    caption = ", ".join([title, *kept[:_MOST_TAGS]] if title else kept[:_MOST_TAGS])
    return [caption] if len(_WORDS.findall(caption)) > 1 else []
