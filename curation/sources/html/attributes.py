"""The attributes of a tag as written, and character references."""

import html
import re
from html.entities import html5

WS = r" \t\n\f\r"
# One attribute: a name (a leading "=" belongs to it), then perhaps a value. A quote left open runs to the end of text.
_KEY, _EQUALS, _BARE = rf"[^{WS}/>][^{WS}/>=]*+", rf"[{WS}]*+=[{WS}]*+", rf"[^{WS}>\"'][^{WS}>]*+"
_ATTRIBUTE = re.compile(rf"({_KEY})(?:{_EQUALS}(?:\"([^\"]*+)\"?+|'([^']*+)'?+|({_BARE})|))?+")
# All of a tag's attributes, as the text of a pattern.
ATTRIBUTES = rf"(?:[{WS}/]++|{_KEY}(?:{_EQUALS}(?:\"[^\"]*+\"?+|'[^']*+'?+|{_BARE}|))?+)*+"
_REFERENCE = re.compile(r"&(?:#[0-9]++;?|#[xX][0-9A-Fa-f]++;?|[A-Za-z][A-Za-z0-9]*+;?)")
_REFERENCE_CHARS = 40  # no name is longer, and no number that stands for a character


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
