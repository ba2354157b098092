"""The state that a Reduce has come to, where the segment that it ends is closed: for its verdicts and for the books.

<closing folder>/<round>-state.parquet   of each round
                /closed.json             {"rounds"}
"""

import pyarrow as pa

from curation.job import Job, Segment
from pipeline import storage

CLOSED = "closed.json"


def state_name(number: int) -> str:
    return f"{number}-state"


def last_state(job: Job, here: Segment) -> pa.Table:
    closed = storage.read_state(job.closing_file(here, CLOSED)) or {"rounds": 1}
    return storage.read_parquet(job.closing_file(here, f"{state_name(closed['rounds'] - 1)}.parquet"))
