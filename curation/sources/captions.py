"""Which fields of a foreign record are captions, and what texts such a field holds."""

from typing import Any

# A caption field -> the source its texts are given; a list in it may hold texts or {text, source} objects.
CAPTION_FIELDS = {
    "captions": "caption", "caption": "caption", "text": "caption", "TEXT": "caption", "alt": "alt", "alt_text": "alt",
    "title": "title", "all_captions": "all_captions", "top_caption": "top_caption", "texts": "caption",
}  # fmt: skip


def listed(value: Any, source: str) -> list[tuple[str, str]]:
    """(source, text) of the texts in a caption field: a text, or a list of texts or of {text, source}."""
    found = []
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, str):
            found.append((source, item))
        elif isinstance(item, dict) and isinstance(item.get("text"), str):
            own = item.get("source")
            found.append((own if isinstance(own, str) and own else source, item["text"]))
    return found
