"""Tables of pairs for stage tests, and a Global stage run over any cut of them."""

import hashlib
import io

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from curation.stage import Global, ImageMeasure, Rule, TextMeasure, Verdicts
from curation.table import arrow, captions, schemas


def pair(name: str, *texts: str, **fields: object) -> dict[str, object]:
    """A row of PAIRS; `texts` become alt captions, `fields` override columns (page_robots goes to every caption)."""
    robots = fields.pop("page_robots", "")
    row = {f.name: 0 if pa.types.is_integer(f.type) else "" for f in schemas.PAIRS}
    row |= {"uid": hashlib.blake2b(name.encode(), digest_size=16).hexdigest(), "url": f"http://x.test/{name}"}
    row["captions"] = [
        {"text": text, "source": "alt", "page_url": "", "page_robots": robots, "language": ""} for text in texts
    ]
    return row | fields


def pairs_of(*rows: dict[str, object], **columns: tuple[pa.DataType, list]) -> pa.Table:
    """A table sorted by uid; `columns` (type, values in the order of `rows`) are added behind those of PAIRS."""
    plain = [{key: row[key] for key in schemas.PAIRS.names} for row in rows]
    table = pa.Table.from_pylist(plain, schema=schemas.PAIRS)
    for name, (kind, values) in columns.items():
        table = table.append_column(pa.field(name, kind), pa.array(values, kind))
    return table.sort_by("uid")


def by_url(pairs: pa.Table, column: object) -> dict[str, object]:
    """Last part of the url -> value."""
    names = [url.rsplit("/", 1)[1] for url in pairs.column("url").to_pylist()]
    return dict(zip(names, column.to_pylist() if hasattr(column, "to_pylist") else column, strict=True))


def texts_of(pairs: pa.Table, verdicts: Verdicts) -> dict[str, list[str]]:
    lists = verdicts.captions if verdicts.captions is not None else pairs.column("captions")
    return by_url(pairs, [[c["text"] for c in each] for each in lists.to_pylist()])


def run_rule(stage: Rule, pairs: pa.Table, seed: int = 0) -> Verdicts:
    """Judges, and checks that no row minds its neighbours: single rows give the same as all at once."""
    verdicts = stage.judge(pairs, seed)
    for row in range(pairs.num_rows):
        alone = stage.judge(pairs.slice(row, 1), seed)
        assert alone.reason[0].as_py() == verdicts.reason[row].as_py()
        if verdicts.captions is not None:
            assert alone.captions[0].as_py() == verdicts.captions[row].as_py()
    return verdicts


def run_global(stage: Global, pairs: pa.Table, seed: int = 0, buckets: int = 1, slots: int = 1) -> Verdicts:
    """Runs survey, settle, fold and judge with the pairs cut into `buckets` and the groups into `slots`, as a runner
    may; each bucket sees only the folded rows of its own uids. Verdicts of all pairs."""
    edges = np.linspace(0, pairs.num_rows, buckets + 1).astype(int)
    cut = [pairs.slice(a, b - a) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    notes = arrow.concat([stage.survey(each, seed) for each in reversed(cut)])
    slot = notes.column("group").to_numpy() % np.uint64(slots)
    met = [arrow.sorted_plainly(notes.filter(pa.array(slot == s)), ("group", "uid")) for s in range(slots)]
    settled = [stage.settle(each) for each in met]
    folded = stage.fold(arrow.sorted_plainly(arrow.concat(settled)))
    judged = []
    for each in cut:
        own = folded
        if "uid" in folded.column_names:
            own = folded.filter(pc.is_in(folded.column("uid"), value_set=each.column("uid").combine_chunks()))
        judged.append(stage.judge(each, own, seed))
    drops: dict[str, int] = {}
    for each in judged:
        for reason, count in each.caption_drops.items():
            drops[reason] = drops.get(reason, 0) + count
    lists = [captions.column(each) if v.captions is None else v.captions for each, v in zip(cut, judged, strict=True)]
    return Verdicts(
        reason=_joined([v.reason for v in judged]),
        detail=None if judged[0].detail is None else _joined([v.detail for v in judged]),
        captions=_joined(lists) if any(v.captions is not None for v in judged) else None,
        caption_drops=drops,
    )


def same_verdicts(left: Verdicts, right: Verdicts) -> bool:
    def plain(v: Verdicts) -> list:
        return [None if x is None else x.to_pylist() for x in (v.reason, v.detail, v.captions)] + [v.caption_drops]

    return plain(left) == plain(right)


def measured(stage: ImageMeasure | TextMeasure, pairs: pa.Table, bodies: list[bytes] | None = None) -> pa.Table:
    """`pairs` with the columns of a measure stage; `bodies` in the order of the table."""
    if isinstance(stage, TextMeasure):
        return captions.with_fields(pairs, stage.open()(captions.explode(pairs).column("text").to_pylist()))
    found = stage.open()(bodies)
    for field in stage.adds:
        pairs = pairs.append_column(field, found.column(field.name))
    return pairs


def picture(seed: int, size: tuple[int, int] = (96, 80), mode: str = "RGB") -> Image.Image:
    """A smooth random picture with strong low frequencies."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC).convert(mode)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _joined(arrays: list[pa.Array | pa.ChunkedArray]) -> pa.Array:
    return pa.concat_arrays([arrow.whole(each) for each in arrays])
