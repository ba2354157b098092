"""The books beside the shards: subset.npy (DataComp's format), verdicts/, entry_counts.json, who mentions what. A task
makes one."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from curation.books import ledger
from curation.books.concept_counts import publish_counts
from curation.books.concept_index import publish_index
from curation.job import Job
from pipeline import storage
from pipeline.outputs import CONCEPTS, ENTRY_COUNTS, SUBSET, VERDICTS


def verdicts_name(bucket: int) -> str:
    return f"{VERDICTS}/bucket-{bucket:05d}.parquet"


def _bucket_of(name: str) -> int:
    return int(name.partition("/bucket-")[2].removesuffix(".parquet"))


def publish_book(job: Job, folder: str, name: str, rows: Sequence[int]) -> None:
    """Makes the book `name`; `rows`: the kept pairs of each bucket."""
    url = storage.join(folder, name)
    if name == SUBSET:
        _publish_subset(job, url, rows)
    elif name == ENTRY_COUNTS:
        publish_counts(job, folder)
    elif name.startswith(f"{CONCEPTS}/"):
        publish_index(job, url, _bucket_of(name))
    else:
        _publish_verdicts(job, url, _bucket_of(name))


def _publish_subset(job: Job, url: str, rows: Sequence[int]) -> None:
    """DataComp's format: sorted uint64 pairs. Holds the uids of one bucket at a time."""
    last = job.segments[-1]
    with storage.publish(url) as path:
        kind = np.dtype([("f0", "u8"), ("f1", "u8")])
        with open(path, "wb") as file:
            header = {"descr": kind.descr, "fortran_order": False, "shape": (sum(rows),)}
            np.lib.format.write_array_header_1_0(file, header)
            for bucket in range(job.buckets):
                uids = storage.read_parquet(job.file(last, bucket, ".parquet"), ["uid"]).column("uid").to_pylist()
                file.write(np.frombuffer(bytes.fromhex("".join(uids)), ">u8").astype("<u8").tobytes())


def _publish_verdicts(job: Job, url: str, bucket: int) -> None:
    """The pairs of one bucket that were dropped."""
    found = [storage.read_parquet(job.file(each, bucket, ".ledger.parquet")) for each in job.segments]
    table = pa.concat_tables([ledger.LEDGER.empty_table(), *found]).select(list(ledger.PUBLIC))
    storage.publish_parquet(url, table.sort_by("uid"))
