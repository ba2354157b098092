"""The tags of an HTML text, in one pass and in time linear in its length, whatever the text.

Follows the WHATWG tokenizer (attributes, quotes, comments, raw text, escaped scripts, CDATA) without building a tree: a
tree builder can be made to take hours by a megabyte of nested elements (measured: 200,000 open <div>, 88 s in lexbor),
and nothing can stop native code half way. What the tree decides (is this tag of svg? does this end tag close the
figure?) is asked of the open elements (nesting.py), and only of texts that hold a tag for which it matters.
"""

import re
from collections.abc import Iterator

from curation.sources.html.attributes import ATTRIBUTES, WS
from curation.sources.html.elements import RAW
from curation.sources.html.nesting import Nesting

# A tag with all of its attributes, or what else may begin with "<" and is no text. One search a tag.
_TAG = re.compile(rf"<(?:(/?[A-Za-z][^{WS}/>]*+)({ATTRIBUTES})|[/!?])")
_COMMENT_END = re.compile(r"--!?>")
_RAW_END = {name: re.compile(rf"</{name}(?=[{WS}/>])", re.IGNORECASE) for name in RAW}
_SCRIPT_STEP = re.compile(rf"<!--|-->|</?script(?=[{WS}/>])", re.IGNORECASE)
_NESTS = re.compile(r"<(?:svg|math|template|figure)", re.IGNORECASE)


def nesting_for(text: str) -> Nesting | None:
    """The (empty) open elements to read `text` with; None where they could decide nothing, to save the time."""
    return Nesting() if _NESTS.search(text) else None


def tags(text: str, nesting: Nesting | None = None) -> Iterator[tuple[int, int, str, str]]:
    """(start, end, name, attributes as written) of every tag; the name is lower-case, with "/" before an end tag's and
    "svg:" or "math:" before that of a start tag of these.

    A comment, a declaration and the content of a raw text element come as one item named "". A tag that the text ends
    in is no tag. `nesting` (see nesting_for) holds the elements open behind the tag last given.
    """
    at, raw_end = 0, -1
    while match := _TAG.search(text, at):
        start = match.start()
        if nesting is not None and start > at:
            nesting.text(is_blank=not text[at:start].strip(" \t\n\f\r"))
        if match[1] is None:
            at = _declaration_end(text, start, nesting is not None and nesting.is_foreign)
            yield start, at, "", ""
            continue
        name = match[1].lower()
        written, stop = match[2], match.end()
        if stop >= len(text):
            return
        at = stop + 1
        if nesting is not None:
            if name[0] != "/":
                name = nesting.start(name, written)
            elif start != raw_end:  # raw text and its end tag have been dealt with
                nesting.end(name[1:])
        yield start, at, name, written
        if name in _RAW_END:
            raw_end = _raw_end(text, at, name)
            yield at, raw_end, "", ""
            at = raw_end
        elif name == "plaintext":
            yield at, len(text), "", ""
            return


def _raw_end(text: str, at: int, name: str) -> int:
    """Where the end tag of a raw text element opened before `at` begins, or where the text ends."""
    if name == "script":
        return _script_end(text, at)
    ending = _RAW_END[name].search(text, at)
    return ending.start() if ending else len(text)


def _script_end(text: str, at: int) -> int:
    """As _raw_end, of a script: between <!-- and -->, a <script> takes an end tag for itself ("double escaped")."""
    is_escaped = is_double = False
    while step := _SCRIPT_STEP.search(text, at):
        found, at = step[0].lower(), step.end()
        if found == "<!--":
            is_escaped, at = True, at - 2  # its dashes may begin the -->
        elif found == "-->":
            is_escaped = is_double = False
        elif found == "<script":
            is_double = is_escaped
        elif is_double:
            is_double = False
        else:
            return step.start()
    return len(text)


def _declaration_end(text: str, at: int, is_foreign: bool) -> int:
    """Where the comment, declaration or nameless end tag at `at` ends: behind its ">", or where the text ends."""
    if is_foreign and text.startswith("<![CDATA[", at):
        end = text.find("]]>", at)
        return end + 3 if end >= 0 else len(text)
    if not text.startswith("<!--", at):
        return text.find(">", at) + 1 or len(text)
    if text.startswith((">", "->"), at + 4):
        return text.index(">", at) + 1
    ending = _COMMENT_END.search(text, at + 4)
    return ending.end() if ending else len(text)
