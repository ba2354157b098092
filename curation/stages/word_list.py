"""Keeps captions that have a word of a list, as DataComp's text-based filter does (Gadre et al., 2023)."""

import functools
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from curation.methods.concepts.matcher import BUILTIN, entries_digest, read_entries
from curation.methods.lists.entries import entries
from curation.methods.reasons import mark, sift
from curation.stage import Context, Rule, Stage, Verdicts
from curation.table.arrow import whole
from curation.table.captions import explode
from pipeline import storage
from pipeline.errors import RecipeError
from pipeline.settings import PathText


class WordList(Rule):
    """A caption stays when one of its words, which are what stands between spaces, signs and all, is on the list,
    whatever the case of both. A pair goes with its last caption.

    words   path of a list (text, JSON or parquet: methods/lists/entries.py), or `builtin:imagenet21k_words`: the words
            whose first WordNet sense is a synset of ImageNet-21k, with their plurals (curation/lists/)
    column  of a parquet file, or of the objects in JSON

    Reasons: no_word.
    """

    kind: Literal["word_list"] = "word_list"
    reads: ClassVar[tuple[str, ...]] = ("captions.text",)

    words: PathText = "builtin:imagenet21k_words"
    column: str | None = None

    def files(self) -> dict[str, str]:
        return {} if self.words.startswith(BUILTIN) else {"words": self.words}

    def file_digests(self) -> dict[str, tuple[str, str]]:
        if self.words.startswith(BUILTIN):
            return {"words": (self.words, entries_digest(self.words, f"{self.kind}.words"))}
        return super().file_digests()

    def check(self, where: str, before: Sequence[Stage] = ()) -> None:
        if self.words.startswith(BUILTIN):
            read_entries(self.words, f"{where}.words")
        super().check(where, before)
        self._listed(where)

    def open(self, ctx: Context) -> Callable[[pa.Table], Verdicts]:
        listed = self._listed(self.kind)
        return lambda pairs: self._judged(pairs, listed)

    def judge(self, pairs: pa.Table, ctx: Context) -> Verdicts:
        return self.open(ctx)(pairs)

    def _listed(self, where: str) -> frozenset[str]:
        ((_, digest),) = self.file_digests().values()
        return _read(self.words, self.column, f"{where}.words", digest)

    def _judged(self, pairs: pa.Table, listed: frozenset[str]) -> Verdicts:
        flat = explode(pairs)
        texts = whole(flat.column("text")).dictionary_encode()
        has = [not listed.isdisjoint(text.lower().split()) for text in texts.dictionary.to_pylist()]
        lacks = ~np.array(has, bool)[texts.indices.to_numpy()]
        return sift(flat, mark([("no_word", lacks)], flat.num_rows), pairs.num_rows)


@functools.lru_cache(maxsize=8)
def _read(path: str, column: str | None, where: str, digest: str) -> frozenset[str]:
    """Once a process and content. RecipeError naming the line of what is no word."""
    if path.startswith(BUILTIN):
        return frozenset(read_entries(path, where))
    found = set()
    for at, entry in entries(path, column, where):
        if not isinstance(entry, str) or len(entry.split()) != 1:
            shown = f"{storage.shown(path)}, line {at}: {entry!r:.80}"
            raise RecipeError(where, shown, "expected one word, without a space", "a caption is looked at word by word")
        found.add(entry.strip().lower())
    if not found:
        raise RecipeError(where, f"{storage.shown(path)} holds no word", "expected a list of words")
    return frozenset(found)
