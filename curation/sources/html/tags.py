"""The tags of an HTML text, in one pass and in time linear in its length, whatever the text.

Follows the WHATWG tokenizer (attributes, quotes, comments, raw text) without building a tree: a tree builder can be
made to take hours by a megabyte of nested elements (measured: 200,000 open <div>, 88 s in lexbor), and nothing can
stop native code half way. What is lost is only the repair of misnested elements, which mentions of images do not need.
"""

import html
import re
from collections.abc import Iterator
from html.entities import html5

_WS = r" \t\n\f\r"
_NAME = re.compile(rf"<(/?[A-Za-z][^{_WS}/>]*+)")
# One attribute: a name (a leading "=" belongs to it), then perhaps a value. A quote left open runs to the end of text.
_KEY, _EQUALS, _BARE = rf"[^{_WS}/>][^{_WS}/>=]*+", rf"[{_WS}]*+=[{_WS}]*+", rf"[^{_WS}>\"'][^{_WS}>]*+"
_ATTRIBUTE = re.compile(rf"({_KEY})(?:{_EQUALS}(?:\"([^\"]*+)\"?+|'([^']*+)'?+|({_BARE})|))?+")
_ATTRIBUTES = re.compile(rf"(?:[{_WS}/]++|{_KEY}(?:{_EQUALS}(?:\"[^\"]*+\"?+|'[^']*+'?+|{_BARE}|))?+)*+")
_OPEN = re.compile(r"<[A-Za-z/!?]")
_COMMENT_END = re.compile(r"--!?>")
_REFERENCE = re.compile(r"&(?:#[0-9]++;?|#[xX][0-9A-Fa-f]++;?|[A-Za-z][A-Za-z0-9]*+;?)")
_REFERENCE_CHARS = 40  # no name is longer, and no number that stands for a character

# Elements whose content is text, not tags, up to their own end tag. <noscript> is read as elements on purpose.
_RAW = ("script", "style", "xmp", "iframe", "noembed", "noframes", "textarea", "title")
_RAW_END = {name: re.compile(rf"</{name}(?=[{_WS}/>])", re.IGNORECASE) for name in _RAW}
_FOREIGN = ("svg", "math")  # in these, <title/> and <style/> may close themselves
_LEAVES_FOREIGN = frozenset("body center div h1 h2 h3 h4 h5 h6 head hr img li ol p pre table ul".split())


def tags(text: str) -> Iterator[tuple[int, int, str, str]]:
    """(start, end, name, attributes as written) of every tag; the name is lower-case, with "/" before an end tag's.

    A comment, a declaration and the content of a raw text element come as one item named "". A tag that the text ends
    in is no tag.
    """
    at, foreign = 0, 0
    while opening := _OPEN.search(text, at):
        at = opening.start()
        match = _NAME.match(text, at)
        if match is None:
            end = _declaration_end(text, at)
            yield at, end, "", ""
            at = end
            continue
        name = match[1].lower()
        stop = _ATTRIBUTES.match(text, match.end()).end()  # type: ignore[union-attr]  # it matches the empty text too
        if stop >= len(text):
            return
        yield at, stop + 1, name, text[match.end() : stop]
        at = stop + 1
        if name in _FOREIGN:
            foreign += text[stop - 1] != "/"
        elif foreign:
            foreign = 0 if name in _LEAVES_FOREIGN else foreign - (name[1:] in _FOREIGN)
        elif name in _RAW_END:
            ending = _RAW_END[name].search(text, at)
            end = ending.start() if ending else len(text)
            yield at, end, "", ""
            at = end
        elif name == "plaintext":
            return


def _declaration_end(text: str, at: int) -> int:
    """Where the comment, declaration or nameless end tag at `at` ends: behind its ">", or where the text ends."""
    if not text.startswith("<!--", at):
        return text.find(">", at) + 1 or len(text)
    if text.startswith((">", "->"), at + 4):
        return text.index(">", at) + 1
    ending = _COMMENT_END.search(text, at + 4)
    return ending.end() if ending else len(text)


def attributes(written: str) -> dict[str, str]:
    """Lower-case name -> value, still with its character references; of a repeated name the first counts."""
    found: dict[str, str] = {}
    for match in _ATTRIBUTE.finditer(written):
        name, double, single, bare = match.groups()
        found.setdefault(name.lower(), double or single or bare or "")
    return found


def unescape(text: str, attribute: bool = False) -> str:
    """Character references replaced. In an attribute `&copy=1` stays as it is, or urls would break."""
    if "&" not in text:
        return text

    def replace(match: re.Match[str]) -> str:
        written = match[0]
        if len(written) > _REFERENCE_CHARS:
            return "\ufffd" if written[1] == "#" else written
        if attribute and written[1] != "#":
            name = written[1:]
            if not name.endswith(";") and text[match.end() : match.end() + 1] == "=":
                return written
            return html5.get(name, written)
        return html.unescape(written)

    return _REFERENCE.sub(replace, text)
