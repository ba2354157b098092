"""The books beside the shards: subset.npy (DataComp's format), verdicts/, entry_counts.json."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from curation.books import ledger
from curation.books.concept_counts import publish_counts
from curation.job import Job
from pipeline import storage
from pipeline.outputs import SUBSET, VERDICTS


def publish_books(job: Job, folder: str, rows: Sequence[int]) -> None:
    """subset.npy (DataComp: sorted uint64 pairs), verdicts/ (dropped pairs, by bucket), entry_counts.json."""
    publish_counts(job, folder)
    last = job.segments[-1]
    with storage.publish(storage.join(folder, SUBSET)) as path:
        kind = np.dtype([("f0", "u8"), ("f1", "u8")])
        with open(path, "wb") as file:
            header = {"descr": kind.descr, "fortran_order": False, "shape": (sum(rows),)}
            np.lib.format.write_array_header_1_0(file, header)
            for bucket in range(job.buckets):
                uids = storage.read_parquet(job.file(last, bucket, ".parquet"), ["uid"]).column("uid").to_pylist()
                file.write(np.frombuffer(bytes.fromhex("".join(uids)), ">u8").astype("<u8").tobytes())
    for bucket in range(job.buckets):
        found = [storage.read_parquet(job.file(each, bucket, ".ledger.parquet")) for each in job.segments]
        table = pa.concat_tables([ledger.LEDGER.empty_table(), *found]).select(list(ledger.PUBLIC))
        name = f"bucket-{bucket:05d}.parquet"
        storage.publish_parquet(storage.join(folder, VERDICTS, name), table.sort_by("uid"))
