"""What the report says of a stage that generates: whose captions they are, how many answers were used, and why not."""

from collections.abc import Mapping
from typing import Any

from curation.stage import Section

ANSWERED, NEGATIVES, AGAIN = "answered", "negatives", "sent again"
"""Among what a stage counts; every other name is why an answer was not used, or why there was none."""
SAME_LANGUAGE, NO_INPUT = "not asked, in that language", "not asked, nothing to ask about"
_BESIDE = (NEGATIVES, AGAIN, SAME_LANGUAGE, NO_INPUT)


def sections(provenance: Mapping[str, str], counts: Mapping[str, Any]) -> list[Section]:
    """`counts`: of the manifest, and `others`, what the Verdicts counted: of pairs, or of captions where those are what
    is asked about."""
    others: Mapping[str, int] = counts.get("others", {})
    said = ", ".join(f"{name}: {value}" for name, value in provenance.items())
    used = others.get(ANSWERED, 0)
    reasons = {name: number for name, number in others.items() if name not in (ANSWERED, *_BESIDE)}
    whole = used + sum(reasons.values())
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    rows = [("used", used, _share(used, whole)), *((name, n, _share(n, whole)) for name, n in ordered)] if whole else []
    rows += [(name, others[name], "") for name in _BESIDE if others.get(name)]
    return [Section("Generated captions", said, ("answers", "number", "share") if rows else (), tuple(rows))]


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2%}"
