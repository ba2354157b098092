"""What stages show of themselves (Stage.shown), gathered while they judge a bucket: nothing is read a second time.

Of each stage: histograms of the numbers it decided by, a few pairs under each of its headings, captions as they were
and as it left them, and how often its words occur. A bucket's share is some kilobytes and lies in the metadata of its
ledger; shares add up in a tree, by `merged`. Bins are a fixed grid and rows have a keyed order, so buckets, cuts and
workers leave no trace.
"""

import base64
import json
import zlib
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.books.examples import CHARACTERS, first, order_of, rows_of
from curation.methods.selection import bits_of, value_of
from curation.methods.units import units_of
from curation.pool.store import PLACE
from curation.stage import Generate, Picks, Scores, Stage, Verdicts
from curation.table import arrow, captions

PICKS, CHANGED, CAPTIONS = 8, 8, 4  # pairs under a heading, pairs with other captions, captions of each of them
ANSWERS, REASONS = 6, 60  # pairs with answers of one fate, and fates, of a stage that generates
_KEY = b"clipmill.shown"
_SHIFT = np.uint64(45)  # of the bits of a float64: 128 bins from each power of two to the next
_SMALL, _LARGE = 2.0**-40, 2.0**60  # beyond: 0, or as large
_TOLD = ("text", "source", "model", "prompt_version", "score")

Evidence = dict[str, dict[str, Any]]
"""Name of a stage -> {"scores": {column: ...}, "picks": {title: ...}, "changed": [...], "words": {column: counts},
"answers": {why they are not used, or "": [...]}}."""


def of_stage(stage: Stage, seed: int, pairs: pa.Table, verdicts: Verdicts, state: pa.Table | None) -> dict[str, Any]:
    """What a stage shows of one bucket; `pairs` as it was given them."""
    after = pairs
    if verdicts.captions is not None:
        after = captions.replace(after, arrow.whole(verdicts.captions))
    if verdicts.columns is not None:
        after = arrow.with_columns(after, verdicts.columns)
    told = nothing()
    for name in stage.told_in_words:
        told["words"][name] = words_of(after, name)
    if not pairs.num_rows or not (shows(stage) or verdicts.captions is not None):
        return told
    reason = arrow.whole(verdicts.reason)
    is_changed = _differs(pairs, after) if verdicts.captions is not None else np.zeros(pairs.num_rows, bool)
    if not (shows(stage) or is_changed.any() or verdicts.answers is not None):
        return told
    order = order_of(pairs.column("uid").to_pylist(), seed)
    seen = after if stage.adds else pairs
    for each in stage.shown(seen, verdicts, state) if shows(stage) else ():
        if isinstance(each, Scores):
            told["scores"][each.column] = _binned(each)
        else:
            told["picks"][each.title] = {"place": each.place, "rows": _picked(each, pairs, reason, order)}
    told["changed"] = _changed(pairs, after, is_changed & reason.is_null().to_numpy(False), order)
    if verdicts.answers is not None and isinstance(stage, Generate):
        told["answers"] = _answers(stage, pairs, verdicts.answers, order)
    return told


def nothing() -> dict[str, Any]:
    """What a stage tells that shows nothing."""
    return {"scores": {}, "picks": {}, "changed": [], "words": {}, "answers": {}}


def shows(stage: Stage) -> bool:
    """Whether it has something of its own to show."""
    return type(stage).shown is not Stage.shown


def words_of(pairs: pa.Table, name: str) -> dict[str, int]:
    """How many captions (`captions.NAME`) or pairs have each word; "" where they have none."""
    field = name.removeprefix("captions.")
    of = captions.explode(pairs) if field != name else pairs
    if field not in of.schema.names:
        return {}
    found = pc.value_counts(pc.fill_null(arrow.whole(of.column(field)).cast(pa.string()), "")).to_pylist()
    return {entry["values"]: entry["counts"] for entry in found}


def _binned(scores: Scores) -> dict[str, Any]:
    """{"of", "cuts", "none": without a number, "bins": {bin: [all, kept]}}."""
    there = np.isfinite(scores.values)
    values, kept = scores.values[there], scores.kept[there]
    values = np.where(np.abs(values) < _SMALL, 0.0, np.clip(values, -_LARGE, _LARGE))
    bins, at = np.unique(bits_of(values) >> _SHIFT, return_inverse=True)
    whole = np.bincount(at, minlength=len(bins)).tolist()
    left = np.bincount(at, kept, len(bins)).astype(np.int64).tolist()
    counted = {str(each): [a, b] for each, a, b in zip(bins.tolist(), whole, left, strict=True)}
    cuts = sorted({float(cut) for cut in scores.cuts if np.isfinite(cut)})
    return {"of": scores.of, "cuts": cuts, "none": int((~there).sum()), "bins": counted}


def lower_bound(number: int) -> float:
    """Of a bin, by its number."""
    return value_of(f"{number << int(_SHIFT):016x}")


def _picked(picks: Picks, pairs: pa.Table, reason: pa.Array, order: np.ndarray) -> list[dict[str, Any]]:
    rank = np.zeros(len(picks.rows)) if picks.order is None else np.nan_to_num(picks.order)
    at = np.lexsort([order[picks.rows], rank])[:PICKS]
    rows = picks.rows[at]
    if picks.texts is None:
        texts = captions.first(pairs.take(pa.array(rows, pa.int64())))
    else:
        texts = picks.texts.take(pa.array(at, pa.int64()))
    kept = (reason.is_null().to_numpy(False)[rows] if picks.kept is None else picks.kept[at]).tolist()
    found = rows_of(pairs, rows)
    for i, row in enumerate(found):
        row["caption"] = (texts[i].as_py() or "")[:CHARACTERS]
        row["rank"], row["order"], row["kept"] = float(rank[at[i]]), int(order[rows[i]]), kept[i]
        row["reason"] = None if kept[i] else reason[int(rows[i])].as_py()
        if picks.values is not None and np.isfinite(picks.values[at[i]]):
            row["detail"] = f"{picks.label} {picks.values[at[i]]:.4g}".strip()
        if picks.against is not None:
            row["against"] = picks.against[int(at[i])].as_py()
    return found


def _changed(before: pa.Table, after: pa.Table, is_told: np.ndarray, order: np.ndarray) -> list[dict[str, Any]]:
    """Some pairs that stay with other captions than they came with."""
    rows = np.flatnonzero(is_told)
    rows = rows[np.argsort(order[rows], kind="stable")][:CHANGED]
    was, left = (table.take(pa.array(rows, pa.int64())).column("captions").to_pylist() for table in (before, after))
    found = rows_of(before, rows)
    for row, had, has, at in zip(found, was, left, rows.tolist(), strict=True):
        row["order"], row["before"], row["after"] = int(order[at]), _told(had), _told(has)
    return found


def _answers(stage: Generate, pairs: pa.Table, answers: pa.Table, order: np.ndarray) -> dict[str, Any]:
    """By their fate some pairs, drawn by their uid alone, so that stages one behind the other show the same: what the
    prompt was told of each, and what came."""
    found: dict[str, Any] = {}
    fates = pc.fill_null(arrow.whole(answers.column("reason")), "")
    for fate in sorted(fates.unique().to_pylist())[:REASONS]:
        some = answers.filter(pc.equal(fates, fate))
        owner = some.column(captions.ROW).to_numpy()
        rows = np.unique(owner)
        rows = rows[np.argsort(order[rows], kind="stable")][:ANSWERS]
        mine = pairs.take(pa.array(rows, pa.int64()))
        asked, first = (
            stage.asked(units_of(stage, mine)) if stage.unit == "pair" else [""] * len(rows),
            captions.first(mine),
        )
        found[fate] = rows_of(mine, np.arange(len(rows)))
        for at, row in enumerate(found[fate]):
            own = some.filter(pa.array(owner == rows[at])).slice(0, CAPTIONS).to_pylist()
            row["order"], row["caption"] = int(order[rows[at]]), (first[at].as_py() or "")[:CHARACTERS]
            row["asked"] = asked[at][:CHARACTERS]
            row["answers"] = [{name: (each[name] or "")[:CHARACTERS] for name in ("of", "text")} for each in own]
            row["more"] = int((owner == rows[at]).sum()) - len(own)
    return found


def _differs(before: pa.Table, after: pa.Table) -> np.ndarray:
    """bool: whether the texts of each pair are others."""
    had, has = captions.counts(before.column("captions")), captions.counts(after.column("captions"))
    differs = had != has
    if not differs.any() and captions.explode(before).column("text").equals(captions.explode(after).column("text")):
        return differs
    same = pa.array(~differs)
    left, right = (captions.explode(table.filter(same)) for table in (before, after))
    other = pc.not_equal(left.column("text"), right.column("text")).to_numpy(zero_copy_only=False)
    differs[np.flatnonzero(~differs)[left.column(captions.ROW).to_numpy()[other.astype(bool)]]] = True
    return differs


def _told(some: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A few captions, and how many more there are."""
    texts = [{name: _short(each[name]) for name in _TOLD if _is_told(each.get(name))} for each in some[:CAPTIONS]]
    return texts + ([{"more": len(some) - CAPTIONS}] if len(some) > CAPTIONS else [])


def _is_told(value: Any) -> bool:
    return np.isfinite(value) if isinstance(value, (int, float)) else bool(value)


def _short(value: Any) -> Any:
    return value[:CHARACTERS] if isinstance(value, str) else float(value)


def put(table: pa.Table, evidence: Evidence) -> pa.Table:
    """A ledger that carries it."""
    text = base64.b64encode(zlib.compress(json.dumps(evidence).encode(), 6))
    return table.replace_schema_metadata({**(table.schema.metadata or {}), _KEY: text})


def taken(ledger: pa.Table) -> Evidence:
    text = (ledger.schema.metadata or {}).get(_KEY)
    return json.loads(zlib.decompress(base64.b64decode(text))) if text else {}


def hidden(evidence: Evidence, uids: Collection[str]) -> Evidence:
    """Without the images of pairs whose owner opted out at a later stage."""
    for told in evidence.values():
        for row in rows_with_images(told):
            if row["uid"] in uids:
                row.update({**dict.fromkeys(PLACE), "image_part": "", "detail": "not shown: left out later on request"})
                row.pop("against", None)  # it may show the same
    return evidence


def rows_with_images(told: dict[str, Any]) -> list[dict[str, Any]]:
    groups = [*(group["rows"] for group in told["picks"].values()), *told.get("answers", {}).values()]
    return [*(row for rows in groups for row in rows), *told["changed"]]


def merged(parts: Iterable[Evidence]) -> Evidence:
    """Adds up; the same whatever the order."""
    whole: Evidence = {}
    for part in parts:
        for name, told in part.items():
            mine = whole.setdefault(name, nothing())
            _add(mine, told)
    return whole


def _add(mine: dict[str, Any], told: dict[str, Any]) -> None:
    for column, scores in told["scores"].items():
        known = mine["scores"].setdefault(column, {**scores, "none": 0, "bins": {}})
        known["none"] += scores["none"]
        for each, (number, kept) in scores["bins"].items():
            before = known["bins"].get(each, (0, 0))
            known["bins"][each] = [before[0] + number, before[1] + kept]
    for title, group in told["picks"].items():
        known = mine["picks"].setdefault(title, {"place": group["place"], "rows": []})
        known["rows"] = first([*known["rows"], *group["rows"]], PICKS)
    mine["changed"] = first([*mine["changed"], *told["changed"]], CHANGED)
    for fate, rows in told.get("answers", {}).items():
        mine["answers"][fate] = first([*mine["answers"].get(fate, []), *rows], ANSWERS)
    for name, counts in told["words"].items():
        mine["words"][name] = dict(Counter(mine["words"].get(name, {})) + Counter(counts))
