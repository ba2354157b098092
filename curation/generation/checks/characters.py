"""Characters that nobody sees: format characters are taken out, but for those that a script or an emoji is made of."""

import re

_HIDDEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Default_Ignorable_Code_Point of Unicode 16, bidi controls among them, and the blank of Braille."""
_FLAG = re.compile("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f")
_TAGS = range(0xE0000, 0xE0080)
_BROKEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ue000-\uf8ff\ufdd0-\ufdef\ufffd-\uffff\U000f0000-\U0010ffff]"
)
"""Control characters, halves of characters, private ones, and what stands for one that could not be read."""
_JOINING = ((0x600, 0x8FF), (0x900, 0xDFF), (0x1000, 0x109F), (0x1780, 0x18AF), (0x1A20, 0x1CFF), (0xA840, 0xABFF),
            (0xFB50, 0xFDFF), (0xFE70, 0xFEFC), (0x10A00, 0x11FFF), (0x1E900, 0x1E95F))  # fmt: skip
"""Scripts in which a joiner makes another shape: Arabic and those like it, Indic, Myanmar, Khmer, Mongolian."""
_PICTURES = ((0xA9, 0xAE), (0x203C, 0x2049), (0x2122, 0x21FF), (0x2300, 0x27BF), (0x2900, 0x2BFF), (0x3030, 0x303D),
             (0x3297, 0x3299), (0x1F000, 0x1FAFF))  # fmt: skip
_KEYS = ((0x23, 0x23), (0x2A, 0x2A), (0x30, 0x39))
_IDEOGRAPHS = ((0x3400, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))


def seen_alone(text: str) -> str:
    """`text` without format characters that show nothing. Joiners stay in the scripts that write with them and within
    an emoji, a variation selector behind a sign that has variants, tags in a flag."""
    if text.isascii() or not _HIDDEN.search(text):
        return text
    flags = [found.span() for found in _FLAG.finditer(text)]
    return _HIDDEN.sub(lambda found: found[0] if _stays(text, found.start(), flags) else _left(found[0]), text)


def is_broken(text: str) -> bool:
    return bool(_BROKEN.search(text))


def _left(char: str) -> str:
    return " " if char == "\u2800" else ""


def _stays(text: str, at: int, flags: list[tuple[int, int]]) -> bool:
    code, before, after = ord(text[at]), text[at - 1 : at], text[at + 1 : at + 2]
    if code in _TAGS:
        return any(start <= at < end for start, end in flags)
    if code in (0x200C, 0x200D):
        base = text[at - 2 : at - 1] if before == "\ufe0f" else before
        return _is_in(before, _JOINING) or (code == 0x200D and _is_in(base, _PICTURES) and _is_in(after, _PICTURES))
    if 0xFE00 <= code <= 0xFE0F:
        return _is_in(before, _KEYS) or _is_in(before, _PICTURES) or _is_in(before, _IDEOGRAPHS)
    if code >= 0xE0100:
        return _is_in(before, _IDEOGRAPHS)
    if 0x180B <= code <= 0x180F:
        return _is_in(before, ((0x1800, 0x18AF),))
    if code in (0x115F, 0x1160):
        return _is_in(before, ((0x1100, 0x11FF),)) or _is_in(after, ((0x1100, 0x11FF),))
    return code == 0x2800 and (_is_in(before, ((0x2801, 0x28FF),)) or _is_in(after, ((0x2801, 0x28FF),)))


def _is_in(char: str, ranges: tuple[tuple[int, int], ...]) -> bool:
    return bool(char) and any(first <= ord(char) <= last for first, last in ranges)
