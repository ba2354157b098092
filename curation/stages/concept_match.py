"""Notes for every caption which entries of a concept list it mentions (methods/concepts/matcher.py has the rule)."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from curation.methods.concepts.matcher import ConceptMatcher, Mode, can_match, entries_digest, read_entries
from curation.stage import Context, Function, Labels, Measure, Stage
from pipeline.log import get_logger

log = get_logger("concept_match")


class ConceptMatch(Measure):
    """Adds `concepts` to each caption: the numbers (places in the list) of the entries it mentions, ascending.

    entries  path of a JSON list of strings, MetaCLIP's format, or `builtin:wordnet_nouns`
    mode     word: case-folded whole words; metaclip: the published rule to the letter
    """

    kind: Literal["concept_match"] = "concept_match"
    unit: ClassVar = "text"
    store: ClassVar = "inline"  # 250,000 texts a second: sooner matched than looked up
    reads: ClassVar[tuple[str, ...]] = ("captions.text",)
    adds: ClassVar[tuple[pa.Field, ...]] = (pa.field("concepts", pa.list_(pa.int32())),)
    caption_fields: ClassVar[bool] = True

    entries: str = Field("builtin:wordnet_nouns", min_length=1)
    mode: Mode = "word"

    def check(self, where: str, before: Sequence[Stage] = ()) -> None:
        entries = read_entries(self.entries, f"{where}.entries")
        never = [entry for entry in entries if not can_match(entry, self.mode)]
        if never:
            some = ", ".join(f"`{entry}`" for entry in never[:3])
            log.info(
                "%s: %d of %d entries can match no text in mode %s, such as %s",
                where,
                len(never),
                len(entries),
                self.mode,
                some,
            )

    def file_digests(self) -> dict[str, tuple[str, str]]:
        return {"entries": (self.entries, entries_digest(self.entries, f"{self.kind}.entries"))}

    def labels(self) -> Labels:
        return Labels(read_entries(self.entries, f"{self.kind}.entries"), self.mode)

    def open(self, ctx: Context) -> Function:
        matcher = ConceptMatcher(read_entries(self.entries, f"{self.kind}.entries"), self.mode)
        return lambda texts: pa.table({"concepts": matcher.match_all(texts.column("text").to_pylist())})
