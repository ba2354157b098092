"""Which language each caption is in, by fastText's lid.176, which MetaCLIP and DataComp filter by. Asks no network."""

from typing import Any, ClassVar, Literal

import pyarrow as pa

from curation.generation.languages import language_model, language_of, model_path
from curation.stage import Context, Function, Measure
from curation.table.file_digests import file_digest


class Language(Measure):
    """Adds `detected` (ISO code, "en") and `detected_score` (0 to 1) to each caption, beside the page's `language`.
    Both are null where a text has no letter, or where the best score is below min_score.
    """

    kind: Literal["language"] = "language"
    unit: ClassVar = "text"
    store: ClassVar = "inline"  # sooner detected than looked up
    reads: ClassVar[tuple[str, ...]] = ("captions.text",)
    adds: ClassVar[tuple[pa.Field, ...]] = (
        pa.field("detected", pa.string()),
        pa.field("detected_score", pa.float32()),
    )
    caption_fields: ClassVar[bool] = True
    told_in_words: ClassVar[tuple[str, ...]] = ("captions.detected",)

    min_score: float = 0.0

    def file_digests(self) -> dict[str, tuple[str, str]]:
        path = str(model_path())
        return {"model": (path, file_digest(path, self.kind))}

    def open(self, ctx: Context) -> Function:
        model = language_model(str(model_path()))

        def measure(texts: pa.Table) -> pa.Table:
            found = [self._of(model, text) for text in texts.column("text").to_pylist()]
            names, scores = zip(*found, strict=True) if found else ((), ())
            return pa.table([list(names), list(scores)], schema=pa.schema(self.adds))

        return measure

    def _of(self, model: Any, text: str) -> tuple[str | None, float | None]:
        found, score = language_of(model, text)
        return (found, score) if found is not None and score >= self.min_score else (None, None)
