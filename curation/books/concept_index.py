"""The folder that `emit.concepts` asks for: how often each entry of the list is mentioned, and by which pairs.

counts.parquet         a row for each entry of the list
    number   its place in the list
    entry    as the list has it
    form     its case-folded words with a space between: what names of classes are joined by, written the same way
    texts    that mentioned it when they were counted (`balance`); null where no stage counted
    kept     distinct texts of the kept pairs that mention it: what a model is trained on
    bin      of `kept`: 0 for none, 1 for 1 to 9, 2 for 10 to 99, and so on
bucket-00000.parquet   number | uid, sorted by both: the kept pairs of one range of uids by what they mention

A bucket is held at a time. Who mentions an entry is found by reading that entry's row groups of each bucket
(`uids_with`), or by any tool that reads parquet.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.books.concept_counts import counted
from curation.job import Job
from curation.methods.concepts.matcher import word_form
from curation.methods.concepts.mentions import mentions
from curation.stage import Labels
from curation.table import parquet
from curation.table.arrow import whole
from pipeline import storage
from pipeline.outputs import CONCEPTS

COUNTS = f"{CONCEPTS}/counts.parquet"
_COUNTS = pa.schema([
    ("number", pa.int32()), ("entry", pa.string()), ("form", pa.string()),
    ("texts", pa.int64()), ("kept", pa.int64()), ("bin", pa.int8()),
])  # fmt: skip
_INDEX = pa.schema([("number", pa.int32()), ("uid", pa.string())])


def index_name(bucket: int) -> str:
    return f"{CONCEPTS}/bucket-{bucket:05d}.parquet"


def publish_index(job: Job, url: str, bucket: int) -> None:
    """Who mentions what, of one bucket."""
    pairs = storage.read_parquet(job.file(job.segments[-1], bucket, ".parquet"), ["uid", "captions"])
    said = mentions(pairs)
    both = np.unique(np.stack([said.entry, said.row[said.owner]], axis=1), axis=0)  # pairs are sorted by uid
    uids = whole(pairs.column("uid")).take(pa.array(both[:, 1]))
    parquet.publish_rows(url, pa.table([pa.array(both[:, 0], pa.int32()), uids], schema=_INDEX))


def publish_table(job: Job, url: str, kept: tuple[np.ndarray, np.ndarray]) -> None:
    """The counts; `kept`: (numbers, texts) of the entries that kept pairs mention."""
    found = counted(job)
    names = found.labels.names if found is not None else _labels(job).names
    after, before = np.zeros(len(names), np.int64), np.zeros(len(names), np.int64)
    after[kept[0]] = kept[1]
    if found is not None:
        before[found.counts.label] = found.counts.texts
    bins = np.searchsorted(10 ** np.arange(19), after, side="right").astype(np.int8)
    texts = pa.array(before, pa.int64(), mask=np.full(len(names), found is None))
    forms = [word_form(name).strip() for name in names]
    columns = [pa.array(np.arange(len(names)), pa.int32()), list(names), forms, texts, after, bins]
    parquet.publish_rows(url, pa.table(columns, schema=_COUNTS))


def uids_with(dataset: str, number: int) -> Iterator[str]:
    """The uids of the kept pairs of a dataset that mention an entry, in order."""
    folder = storage.join(dataset, CONCEPTS)
    for file in storage.list_folder(folder).files:
        if storage.basename(file.url).startswith("bucket-"):
            rows = parquet.read_range(file.url, "number", number, number + 1)
            yield from pc.cast(rows.column("uid"), pa.string()).to_pylist()


def _labels(job: Job) -> Labels:
    """Those given last: there are some, or the recipe would have been refused."""
    return [labels for labels in (stage.labels() for stage in job.settings.stages) if labels is not None][-1]
