"""Which concept entries a text mentions: the substring matching of MetaCLIP (Xu et al., 2023) in two named modes.

`metaclip` is the published rule to the letter, quirks included (case counts, "(dog)" misses "dog", an entry like
"St. Louis" can never match). `word` is the rule one would want: case-folded whole words, whatever punctuation or
spacing stands between them.
"""

import functools
import hashlib
import itertools
import json
import re
import sys
import unicodedata
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Literal

import ahocorasick_rs
import numpy as np
import pyarrow as pa

from pipeline.errors import RecipeError

Mode = Literal["metaclip", "word"]

SPACED_CHARACTERS = ",.;:?!`"
_PLAIN = re.compile(r"[0-9A-Za-z]")
# An entry that can match has at least one space between one of the seven characters and any other character of its own,
# two between two of the seven, and no tab or line end: see `can_match`.
_CROWDED = re.compile(r"[^ ][,.;:?!`]|[,.;:?!`][^ ]|[,.;:?!`] [,.;:?!`]|[\t\n\r]")

# Scripts written without spaces: each character is a word of its own, so that an entry may begin and end anywhere.
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x0FFF),  # Tibetan
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # kana
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


BUILTIN = "builtin:"

# Many texts are matched as one, set apart by this character, which counts as a word of its own.
_END = "\0"
_BATCH = 4096


def read_entries(path: str, where: str = "entries") -> list[str]:
    """The entries of a JSON list of strings, in its order. RecipeError naming `where` when it is anything else."""
    try:
        entries = json.loads(_entry_bytes(path, where))
    except ValueError as error:
        raise RecipeError(where, f"{path} is not JSON: {error}", "expected a JSON list of strings") from None
    if not isinstance(entries, list) or not entries:
        raise RecipeError(where, f"{path} holds no list, or an empty one", "expected a JSON list of strings")
    for at, entry in enumerate(entries):
        if not isinstance(entry, str) or not entry:
            found = f"entry {at} of {path} is {json.dumps(entry)[:60]}"
            raise RecipeError(where, found, "expected a text that is not empty")
    return entries


def entries_digest(path: str, where: str = "entries") -> str:
    """32 hex naming the content of a list of entries, wherever it lies."""
    return hashlib.blake2b(_entry_bytes(path, where), digest_size=16).hexdigest()


def entry_counts(entries: Sequence[str], numbers: np.ndarray, counts: np.ndarray) -> dict[str, int]:
    """The content of MetaCLIP's entry_counts.json: every entry of the list with the number of texts that mention it.

    `numbers` are those of the entries that some text mentions, `counts` (of the same length) how many do. An entry that
    the list has twice is counted at the first of its numbers.
    """
    known = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    found: dict[str, int] = {}
    for number, entry in enumerate(entries):
        found.setdefault(entry, known.get(number, 0))
    return found


def _entry_bytes(path: str, where: str) -> bytes:
    try:
        if path.startswith(BUILTIN):
            return (resources.files("curation") / "lists" / f"{path.removeprefix(BUILTIN)}.json").read_bytes()
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        hint = "`builtin:wordnet_nouns` is the list that comes with clipmill"
        found = f"cannot read {path}: {error.strerror}"
        raise RecipeError(where, found, "expected a JSON list of strings", hint) from None


def metaclip_form(text: str) -> str:
    """The text as MetaCLIP matches it: padded, the seven characters set apart, tab and line ends made spaces."""
    text = f" {text} "
    for character in SPACED_CHARACTERS:
        text = text.replace(character, f" {character} ")
    return text.replace("\t", " ").replace("\n", " ").replace("\r", " ")


def word_form(text: str) -> str:
    """The text as `word` mode matches it: its case-folded words with one space around each ("" when it has none).

    A word is a run of letters, digits and combining marks; everything else parts words, hyphen and underscore too.
    """
    return _words_apart(text.replace(_END, " "))


# Four times as fast as the pattern below, and all that most texts need.
_ASCII_WORDS = {code: " " for code in range(128) if not chr(code).isalnum() and chr(code) != _END}


def _words_apart(text: str) -> str:
    """As word_form, of a text without _END."""
    if text.isascii():
        words = text.lower().translate(_ASCII_WORDS).split()
    else:
        words = _word_pattern().findall(unicodedata.normalize("NFKC", text).casefold())
    return f" {' '.join(words)} " if words else ""


def _all_apart(texts: Sequence[str]) -> str:
    """`_words_apart` of every text, with _END between two: those of ASCII in one go, three times as fast."""
    plain = [text for text in texts if text.isascii()]
    joined = f" {' '.join(f' {_END} '.join(plain).lower().translate(_ASCII_WORDS).split())} "
    if len(plain) == len(texts):
        return joined
    apart = iter(joined.split(_END))
    return _END.join(next(apart) if text.isascii() else _words_apart(text) for text in texts)


@functools.cache
def _word_pattern() -> re.Pattern[str]:
    # `\w` lacks combining marks, without which words of Indic and many other scripts fall apart.
    marks = [c for c in map(chr, range(0x300, sys.maxunicode + 1)) if unicodedata.category(c)[0] == "M"]
    unspaced = "".join(f"{chr(first)}-{chr(last)}" for first, last in _UNSPACED)
    letter = rf"(?:[^\W_{unspaced}]|[{''.join(marks)}])"
    return re.compile(rf"[{unspaced}]|{letter}+")


def words_of(text: str, fold_case: bool = True) -> list[str]:
    """The words of `word_form`; without folding in NFC, as they are written."""
    if fold_case:
        return word_form(text).split()
    return _word_pattern().findall(unicodedata.normalize("NFC", text.replace(_END, " ")))


def stands_alone(word: str) -> bool:
    """Whether it is of a script that puts no space between words."""
    return len(word) == 1 and any(first <= ord(word) <= last for first, last in _UNSPACED)


def can_match(entry: str, mode: Mode) -> bool:
    """Whether any text at all can match this entry."""
    if mode == "metaclip":
        return not _CROWDED.search(entry)
    # Nearly every entry holds a plain letter or digit, which is part of a word in every form of the text.
    return bool(_PLAIN.search(entry) or word_form(entry))


class ConceptMatcher:
    """Finds the entries of a list in texts; entry numbers are positions in the list.

    In `word` mode entries with one form ("Dog", "dog") are one concept, that of the first of them, so that its count is
    not doubled. `unreachable` lists the entries that no text can match, `aliases` those that stand for an earlier one.
    """

    def __init__(self, entries: Sequence[str], mode: Mode) -> None:
        self.mode = mode
        self.unreachable = [i for i, entry in enumerate(entries) if not can_match(entry, mode)]
        self.form: Callable[[str], str] = metaclip_form if mode == "metaclip" else word_form
        numbers: dict[str, int] = {}
        self.aliases: dict[int, int] = {}
        unreachable = set(self.unreachable)
        for i, entry in enumerate(entries):
            if i in unreachable:
                continue
            first = numbers.setdefault(f" {entry} " if mode == "metaclip" else word_form(entry), i)
            if first != i:
                self.aliases[i] = first
        self._number = np.array(list(numbers.values()), np.int64)
        self._batches = not any(_END in entry for entry in entries)
        # Overlapping and nested matches all count; the contiguous automaton measured fastest (benchmarks/README.md).
        self._automaton = ahocorasick_rs.AhoCorasick(
            list(numbers), implementation=ahocorasick_rs.Implementation.ContiguousNFA
        )

    def match(self, text: str) -> list[int]:
        """Numbers of the entries in the text, ascending, each at most once."""
        found = self._automaton.find_matches_as_indexes(self.form(text), overlapping=True)
        return sorted({int(self._number[match[0]]) for match in found})

    def match_all(self, texts: Sequence[str]) -> pa.Array:
        """`match` of every text as one array of type list<int32>."""
        ends, numbers = [np.zeros(1, np.int64)], [np.zeros(0, np.int64)]
        for at in range(0, len(texts), _BATCH):
            rows, found = self._match_batch(texts[at : at + _BATCH])
            ends.append(ends[-1][-1] + np.cumsum(np.bincount(rows, minlength=len(texts[at : at + _BATCH]))))
            numbers.append(found)
        offsets = pa.array(np.concatenate(ends), pa.int32())
        return pa.ListArray.from_arrays(offsets, pa.array(np.concatenate(numbers), pa.int32()))

    def _match_batch(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """(row, number) of every match, sorted by both."""
        if not self._batches or any(_END in text for text in texts):
            lists = [self.match(text) for text in texts]
            rows = np.repeat(np.arange(len(lists)), [len(each) for each in lists])
            return rows, np.array([number for each in lists for number in each], np.int64)
        if self.mode == "metaclip":
            joined = metaclip_form(f" {_END} ".join(texts))
        else:
            joined = _all_apart(texts)
        found = self._automaton.find_matches_as_indexes(joined, overlapping=True)
        flat = np.fromiter(itertools.chain.from_iterable(found), np.int64, 3 * len(found)).reshape(-1, 3)
        row_at = np.cumsum(np.frombuffer(joined.encode("utf-32-le"), np.uint32) == ord(_END))  # of each character
        keys = np.sort(row_at[flat[:, 1]] << 32 | self._number[flat[:, 0]])
        keys = keys[np.diff(keys, prepend=-1) > 0]
        return keys >> 32, keys & 0xFFFFFFFF
