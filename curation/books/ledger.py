"""Applies verdicts and keeps the books: a pair that goes leaves one row, and the counts of every stage add up."""

from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.stage import Verdicts
from curation.table import arrow, captions
from curation.table.arrow import whole

# One row per dropped pair. `verdicts/` of the output shows the first six columns; the others serve the report.
LEDGER = pa.schema(
    [
        pa.field("uid", pa.string()),
        pa.field("url", pa.string()),
        pa.field("stage", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("caption", pa.string()),  # the default caption when the pair went, "" if it had none
        pa.field("image_sha256", pa.string()),
        pa.field("image_part", pa.string()),
        pa.field("image_offset", pa.int64()),
        pa.field("image_size", pa.int64()),
        pa.field("image_ext", pa.string()),
        pa.field("image_stored", pa.string()),
        pa.field("width", pa.int32()),  # null when the pair went before it was measured
        pa.field("height", pa.int32()),
    ]
)
PUBLIC = ("uid", "url", "stage", "reason", "detail", "caption")
WITH_PAIR = "pair_dropped"  # captions that went because their pair did


@dataclass
class Counts:
    """What one stage did. pairs_in = pairs_out + drops; captions_in + captions_added = captions_out + caption_drops."""

    name: str
    kind: str
    pairs_in: int = 0
    pairs_out: int = 0
    captions_in: int = 0
    captions_added: int = 0
    captions_out: int = 0
    drops: dict[str, int] = field(default_factory=dict)
    caption_drops: dict[str, int] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)  # what else the stage counts; not in the manifest

    def add(self, other: "Counts") -> None:
        """Adds the counts of another bucket."""
        for name in ("pairs_in", "pairs_out", "captions_in", "captions_added", "captions_out"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("drops", "caption_drops", "others"):
            mine, theirs = getattr(self, name), getattr(other, name)
            for reason, number in theirs.items():
                mine[reason] = mine.get(reason, 0) + number

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    def faults(self) -> str:
        """What does not add up, or ""."""
        if self.pairs_in != self.pairs_out + sum(self.drops.values()):
            return f"{self.pairs_in} pairs in, {self.pairs_out} out and {sum(self.drops.values())} dropped"
        lost = sum(self.caption_drops.values())
        if self.captions_in + self.captions_added != self.captions_out + lost or self.captions_added < 0:
            return f"{self.captions_in} captions in, {self.captions_out} out and {lost} dropped"
        return ""


def apply(name: str, kind: str, pairs: pa.Table, verdicts: Verdicts) -> tuple[pa.Table, pa.Table, Counts]:
    """(pairs kept, ledger rows of pairs dropped, counts). ValueError when the verdicts do not fit the pairs."""
    reason = _whole(verdicts.reason, pairs.num_rows, "reason")
    before = int(captions.counts(pairs.column("captions")).sum())
    changed = pairs
    if verdicts.captions is not None:
        changed = captions.replace(changed, _whole(verdicts.captions, pairs.num_rows, "captions"))
    if verdicts.columns is not None:
        changed = arrow.with_columns(changed, verdicts.columns)
    keep = pc.is_null(reason)
    if reason.null_count == len(reason):
        kept, gone = changed, changed.slice(0, 0)
    else:
        kept, gone = changed.filter(keep), changed.filter(pc.invert(keep))
    drops = dict(sorted((v["values"], v["counts"]) for v in pc.value_counts(pc.drop_null(reason)).to_pylist()))
    caption_drops = {word: number for word, number in sorted(verdicts.caption_drops.items()) if number}
    with_pair = int(captions.counts(gone.column("captions")).sum())
    if with_pair:
        caption_drops[WITH_PAIR] = caption_drops.get(WITH_PAIR, 0) + with_pair
    after = int(captions.counts(kept.column("captions")).sum())
    added = after + sum(caption_drops.values()) - before
    counts = Counts(name, kind, pairs.num_rows, kept.num_rows, before, added, after, drops, caption_drops)
    counts.others = dict(verdicts.counts)
    if counts.faults():
        raise ValueError(f"the counts do not add up: {counts.faults()}")
    detail = _whole(verdicts.detail, pairs.num_rows, "detail") if verdicts.detail is not None else None
    # The default caption as it was before this stage: a pair dropped for its captions may hold none after it.
    told = pairs.filter(pc.invert(keep))
    lost = reason.filter(pc.invert(keep))
    return kept, _ledger(name, told, lost, detail.filter(pc.invert(keep)) if detail is not None else None), counts


def _ledger(name: str, gone: pa.Table, reason: pa.Array, detail: pa.Array | None) -> pa.Table:
    made = {
        "stage": pa.array([name] * gone.num_rows, pa.string()),
        "reason": reason,
        "detail": pa.nulls(gone.num_rows, pa.string()) if detail is None else pc.cast(detail, pa.string()),
        "caption": pc.fill_null(captions.first(gone), ""),
    }
    columns = []
    for f in LEDGER:
        if f.name in made:
            columns.append(made[f.name])
        elif f.name in gone.schema.names:
            columns.append(gone.column(f.name).cast(f.type))
        else:
            columns.append(pa.nulls(gone.num_rows, f.type))
    return pa.table(columns, schema=LEDGER)


def _whole(values: pa.Array | pa.ChunkedArray, length: int, what: str) -> pa.Array:
    if len(values) != length:
        raise ValueError(f"{what} has {len(values)} rows for {length} pairs")
    values = whole(values)
    return values.cast(pa.string()) if what == "reason" else values
