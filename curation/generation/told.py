"""What the report says of a stage that generates: whose captions they are, how many answers were used, and why not."""

from collections.abc import Mapping
from typing import Any

from curation.methods.units import ANSWERED, ONCE
from curation.stage import Section

NEGATIVES = "negatives"
"""Among what a stage counts; every other name is why an answer was not used, or why there was none."""
SAME_LANGUAGE, NO_INPUT = "not asked, in that language", "not asked, nothing to ask about"


def sections(provenance: Mapping[str, str], counts: Mapping[str, Any], of: str = "pairs") -> list[Section]:
    """`counts`: of the manifest, and `others`, what the Verdicts counted: every answer once, and in how many pairs, or
    captions (`of`), it is."""
    others: Mapping[str, int] = counts.get("others", {})
    said = ", ".join(f"{name}: {value}" for name, value in provenance.items())
    whole = {name: number for name, number in others.items() if not name.startswith(ONCE) and name != NEGATIVES}
    once = {name: others.get(f"{ONCE}{name}", 0) for name in whole}
    if not any(name.startswith(ONCE) for name in others):  # of a run before they were told apart
        once = whole
    total = sum(once.values())
    reasons = sorted(whole.keys() - {ANSWERED}, key=lambda name: (-once[name], name))
    rows: list[tuple[str | int | float, ...]] = [
        ("used" if name == ANSWERED else name, once.get(name, 0), _share(once.get(name, 0), total), whole.get(name, 0))
        for name in ((ANSWERED, *reasons) if sum(whole.values()) else ())
    ]
    rows += [(NEGATIVES, "", "", others[NEGATIVES])] if others.get(NEGATIVES) else []
    return [
        Section("Generated captions", said, ("answers", "number", "share", f"in {of}") if rows else (), tuple(rows))
    ]


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2%}" if whole else ""
