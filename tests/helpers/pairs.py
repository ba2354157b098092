"""Tables of pairs for stage tests, and stages run over any cut of them."""

import hashlib
import io

import numpy as np
import pyarrow as pa
from PIL import Image

from curation.stage import Context, Measure, Rule, Stage, Verdicts
from curation.table import captions, schemas
from tests.helpers import cuts


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
    judge = stage.open(Context(seed))
    verdicts = judge(pairs)
    for row in range(pairs.num_rows):
        alone = judge(pairs.slice(row, 1))
        assert alone.reason[0].as_py() == verdicts.reason[row].as_py()
        if verdicts.captions is not None:
            assert alone.captions[0].as_py() == verdicts.captions[row].as_py()
    return verdicts


def run_global(stage: Stage, pairs: pa.Table, seed: int = 0, buckets: int = 1, slots: int = 1) -> Verdicts:
    """The verdicts of a Reduce or Group on all pairs, cut into `buckets`, groups met in `slots`."""
    return cuts.run(stage, pairs, seed, buckets, slots)


def same_verdicts(left: Verdicts, right: Verdicts) -> bool:
    def plain(v: Verdicts) -> list:
        return [None if x is None else x.to_pylist() for x in (v.reason, v.detail, v.captions)] + [v.caption_drops]

    return plain(left) == plain(right)


def measured(stage: Measure, pairs: pa.Table, bodies: list[bytes] | None = None) -> pa.Table:
    """`pairs` with the columns of a measure stage; `bodies` in the order of the table."""
    verdicts = cuts.measured(stage, pairs, bodies)
    if verdicts.captions is not None:
        return captions.replace(pairs, verdicts.captions)
    for field in stage.adds:
        pairs = pairs.append_column(field, verdicts.columns.column(field.name))
    return pairs


def picture(seed: int, size: tuple[int, int] = (96, 80), mode: str = "RGB") -> Image.Image:
    """A smooth random picture with strong low frequencies."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC).convert(mode)


def grained(seed: int, size: tuple[int, int]) -> Image.Image:
    """A smooth random picture with fine grain over it, as photographs have."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    return Image.fromarray((np.asarray(coarse) + rng.normal(0, 4, (size[1], size[0], 3))).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()
