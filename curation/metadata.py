"""A list of concepts from a corpus of texts: `clipmill metadata`. What MetaCLIP made of Wikipedia and WordNet (Xu et
al., 2023), of sources of one's own and with the same order in every build.

In order, each entry once, where it comes first:

    numbers    0 to 99
    list       another list, by default WordNet's nouns
    unigrams   words of the texts that occur at least `min_count` times, the most frequent first
    bigrams    two words in a row, by pointwise mutual information: log2 of how much more often they stand together than
               if either stood anywhere, the greatest first
    titles     of a list of titles (with their views, where there are any), the most viewed first

Words are those of mode `word` of concept_match. Equal counts come by text.
"""

import heapq
import json
import math
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from pydantic import Field, field_validator, model_validator

from curation.methods.concepts.counting import SpillingCounter
from curation.methods.concepts.matcher import read_entries, stands_alone, words_of
from curation.methods.lists.entries import rows
from pipeline import storage
from pipeline.errors import DataError
from pipeline.log import get_logger
from pipeline.settings import PathText, Settings

log = get_logger("metadata")
_LONGEST = 256  # characters of an entry, as in MetaCLIP 2
_BATCH = 2048  # texts counted at once


class MetadataSettings(Settings):
    """The `metadata` section of a recipe. The defaults are MetaCLIP's published numbers for English, but for `min_pmi`:
    its 30 is of a measure that is not said.

    Memory: at most `held` different words and pairs of words while counting (about 150 bytes each; what is more goes to
    the disk for temporary files), then the words that occur `min_count` or `min_bigram_count` times, and the best. The
    titles are held whole.
    """

    texts: tuple[PathText, ...] = Field((), description="texts: a line each, .jsonl, .json or parquet; .gz too")
    column: str | None = Field(None, description="of the texts in parquet, or in the objects of JSON")
    titles: PathText | None = Field(None, description="a list of titles, as texts are written")
    title: str | None = Field(None, description="column of the titles")
    views: str | None = Field(None, description="column of how often each was viewed; without it all are as good")
    entries: PathText | None = Field("builtin:wordnet_nouns", description="a list that comes first; null for none")
    numbers: bool = True
    min_count: int = Field(100, ge=1)
    max_unigrams: int = Field(251_465, ge=0)
    min_bigram_count: int = Field(100, ge=1)
    min_pmi: float = Field(8.0, description="bits")
    max_bigrams: int = Field(100_646, ge=0)
    min_views: int = Field(70, ge=0)
    max_titles: int = Field(61_235, ge=0)
    fold_case: bool = Field(True, description="as mode `word` of concept_match; false for mode `metaclip`")
    held: int = Field(5_000_000, ge=1000)
    output: PathText

    @field_validator("output")
    @classmethod
    def _json(cls, value: str) -> str:
        if not value.endswith(".json"):
            raise ValueError("expected a name that ends in .json")
        return value

    @model_validator(mode="after")
    def _something(self) -> "MetadataSettings":
        if not self.texts and self.titles is None:
            raise ValueError("give texts, titles, or both")
        if self.views is not None and self.title is None:
            raise ValueError("give title, the column of the titles, beside views")
        return self


class Built(NamedTuple):
    """sources: entries by where they come from; texts: counted; left_out: lines and fields that are no text."""

    path: str
    entries: int
    sources: dict[str, int]
    texts: int
    left_out: int


class _Counts(NamedTuple):
    """words: those that occur often enough to matter; total words and pairs of words; best: bigrams by PMI."""

    unigrams: list[str]
    bigrams: list[str]
    texts: int
    left_out: int


def build_metadata(settings: MetadataSettings) -> Built:
    """Writes the list. RecipeError before any work; DataError when nothing is in it."""
    known = read_entries(settings.entries, "metadata.entries") if settings.entries else []
    for at, path in enumerate(settings.texts):
        next(rows(path, [settings.column], f"metadata.texts.{at}"), None)
    titles, bad_titles = _titles(settings)
    counts = _counted(settings)
    parts = {
        "numbers": [str(number) for number in range(100)] if settings.numbers else [],
        "entries": known, "unigrams": counts.unigrams, "bigrams": counts.bigrams, "titles": titles,
    }  # fmt: skip
    found: dict[str, None] = {}
    sources = {}
    for name, some in parts.items():
        before = len(found)
        found.update(dict.fromkeys(each for each in some if name == "entries" or _is_entry(each)))
        sources[name] = len(found) - before
    if not sources["unigrams"] + sources["bigrams"] + sources["titles"]:
        said = f"{counts.texts} texts and {len(titles)} titles give no entry that is not in the list already"
        raise DataError(settings.output, said, "more texts", "metadata.min_count=... metadata.min_views=...")
    data = json.dumps(list(found), ensure_ascii=False, indent=0) + "\n"
    storage.publish_bytes(settings.output, data.encode("utf-8", "surrogatepass"))
    return Built(settings.output, len(found), sources, counts.texts, counts.left_out + bad_titles)


def _is_entry(text: str) -> bool:
    return 0 < len(text) <= _LONGEST and not all(unicodedata.category(c)[0] in "PZSC" for c in text)


def _counted(settings: MetadataSettings) -> _Counts:
    """One pass over the texts."""
    texts = left_out = total = pairs = 0
    with SpillingCounter(settings.held // 2) as singles, SpillingCounter(settings.held // 2) as doubles:
        for some in _texts(settings):
            for text in some:
                if text is None:
                    left_out += 1
                    continue
                words = words_of(text, settings.fold_case)
                texts, total, pairs = texts + 1, total + len(words), pairs + max(len(words) - 1, 0)
                singles.add(words)
                if settings.max_bigrams:
                    doubles.add(map(" ".join, zip(words, words[1:], strict=False)))
        least = min(settings.min_count, settings.min_bigram_count)
        often = {word: count for word, count in singles.items() if count >= least}
        bigrams = heapq.nsmallest(settings.max_bigrams, _by_pmi(settings, doubles, often, total, pairs))
    there = ((-count, word) for word, count in often.items() if count >= settings.min_count)
    unigrams = [word for _, word in heapq.nsmallest(settings.max_unigrams, there)]
    return _Counts(unigrams, [text for _, text in bigrams], texts, left_out)


def _by_pmi(
    settings: MetadataSettings, doubles: SpillingCounter, often: dict[str, int], total: int, pairs: int
) -> Iterator[tuple[float, str]]:
    """(-PMI, entry) of the bigrams that are wanted. Words without spaces between them are joined."""
    for key, count in doubles.items():
        if count < settings.min_bigram_count:
            continue
        one, other = key.split(" ")
        # Whole numbers up to the last step, so that no machine's order differs for equal ones.
        pmi = math.log2(count * total * total / (pairs * often[one] * often[other]))
        if pmi >= settings.min_pmi:
            yield -pmi, one + other if stands_alone(one) and stands_alone(other) else key


def _texts(settings: MetadataSettings) -> Iterator[list[str | None]]:
    for at, path in enumerate(settings.texts):
        some: list[str | None] = []
        for (text,) in rows(path, [settings.column], f"metadata.texts.{at}"):
            some.append(text if isinstance(text, str) else None)
            if len(some) == _BATCH:
                yield some
                some = []
        yield some


def _titles(settings: MetadataSettings) -> tuple[list[str], int]:
    """(the most viewed, rows that are no title). A title that comes several times has the views of all; those with a
    colon are of a wiki's own pages."""
    if settings.titles is None:
        return [], 0
    bad, viewed = 0, dict[str, int]()
    columns = [settings.title, *([settings.views] if settings.views else [])]
    for row in rows(settings.titles, columns, "metadata.titles"):
        title, views = row[0], row[1] if settings.views else settings.min_views
        if not isinstance(title, str) or isinstance(views, bool) or not isinstance(views, int):
            bad += 1
            continue
        text = " ".join(title.replace("_", " ").split())
        if text and ":" not in text:
            viewed[text] = viewed.get(text, 0) + views
    there = ((-views, text) for text, views in viewed.items() if views >= settings.min_views)
    return [text for _, text in heapq.nsmallest(settings.max_titles, there)], bad
