"""Which language each caption is in, by fastText's lid.176, which MetaCLIP and DataComp filter by. Asks no network."""

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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
            found = [language_of(model, text) for text in texts.column("text").to_pylist()]
            names = pa.array([name for name, _ in found], pa.string())
            scores = np.array([score for _, score in found], np.float64)
            told = pc.and_(names.is_valid(), pa.array(scores >= self.min_score))
            columns = [pc.if_else(told, each, None) for each in (names, pa.array(scores.astype(np.float32)))]
            return pa.table(columns, schema=pa.schema(self.adds))

        return measure
