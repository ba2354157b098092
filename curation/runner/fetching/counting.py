"""What a download came to, for one bucket: what names it, and counts by reason.

The name is a sum over rows of hashes of what was answered: neither the order nor the parts, the time nor the number of
attempts leave a trace in it. The same answers are the same input.
"""

import hashlib
import json
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from curation.job import Job
from curation.pool import captures, runs
from curation.runner.fetching.asking import Plan, asked_for, downloaded, is_passing
from curation.table import schemas

MODULUS = 1 << 128
_GENERIC = {"com", "org", "net", "edu", "gov", "mil", "int", "info", "biz", "test", "app", "dev"}
_SAID = ("uid", "url", "status", "content_type", "sha256", "location", "problem")


def count(job: Job, plan: Plan, bucket: int, number_of_runs: int, hops: int) -> dict[str, Any]:
    """{"sum": of hashes, hex, "bytes", "passing": failures that may have passed, "counts": by reason, "hosts": the
    same by class of host}."""
    said = runs.read_bucket(plan.folder, range(plan.runs), runs.OCCURRENCES, bucket)
    uids = pa.concat_tables([pa.table([asked_for(plan, hops, bucket)], ["uid"]), *(t.select(["uid"]) for t in said)])
    wanted = pc.unique(uids.column("uid").combine_chunks())
    tables = runs.read_bucket(plan.folder, range(number_of_runs), runs.IMAGES, bucket)
    images = captures.coded([t.filter(pc.is_in(t.column("uid"), wanted)) for t in tables], schemas.IMAGES)
    told = downloaded(images.plain(images.table, schemas.IMAGES))
    coded = captures.coded([_with_dictionaries(told)], schemas.IMAGES)
    best = coded.plain(captures.best_images(coded), schemas.IMAGES)
    tags = captures.united(coded, ["uid"], "x_robots_tag")
    total, counts = 0, Counter({"urls": best.num_rows})
    hosts: dict[str, Counter[str]] = {}
    for row in best.to_pylist():
        said_of = [*(row[name] for name in _SAID), tags.get((row["uid"],), "")]
        total += int.from_bytes(hashlib.blake2b(json.dumps(said_of).encode(), digest_size=16).digest(), "little")
        counts[_counted_as(row)] += 1
        hosts.setdefault(host_class(row["url"]), Counter()).update(["urls", _counted_as(row)])
    passing = pc.sum(pc.and_(is_passing(best, plan.settings), pc.is_null(best.column("size")))).as_py() or 0
    size = pc.sum(best.column("size")).as_py() or 0
    return {"sum": f"{total % MODULUS:032x}", "bytes": size, "passing": passing, "counts": dict(counts), "hosts": hosts}


def _counted_as(row: dict[str, Any]) -> str:
    if row["size"] is not None:
        return "images_stored"
    if row["location"]:
        return "redirects"
    return f"failed:{row['problem'] or 'http_error_' + str(row['status'])}"


def host_class(url: str) -> str:
    """Hosts in few classes, however many there are: by country or by one of the oldest domains, addresses apart."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return "others"
    last = host.rpartition(".")[2]
    if ":" in host or last.isdigit():
        return "addresses without a name"
    if not host.isascii() or "." not in host:
        return "others" if "." in host else "names of one word"
    return f".{last}" if last in _GENERIC or (len(last) == 2 and last.isalpha()) else "others"


def _with_dictionaries(table: pa.Table) -> pa.Table:
    for name in captures.texts_of(schemas.IMAGES):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, table.column(name).cast(pa.large_string()).dictionary_encode())
    return table
