"""Which urls are to be downloaded: what inputs mention, and what answers redirect to, and of which nothing is had.

    <output>/_work/fetch-<plan>/run-00000.<table>.pack         parts merged and cut by bucket (pool/runs.py)
                               /asked-<hop>-<bucket>.parquet   uids that mentions (or the hop before) ask for
                               /urls-<hop>-<bucket>.pack       WANTED: what is to be downloaded, by slot
                               /leads-<hop>-<bucket>.pack      uid and url that known redirects lead to, by bucket
                               /asked-<hop>-<bucket>.json      counts; written last: done
                               /revisits/                      which revisits have their bytes (runner/redirects.py)

A redirect leads to a url like any other: of another bucket and another host, and maybe known. So each hop is a round:
urls by bucket, where it is seen what is known of them; then by slot, which is where all urls of a host meet.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.fetch.outcome import PASSING, hit
from curation.fetch.settings import FetchSettings
from curation.job import Job
from curation.pool import captures, runs
from curation.pool.store import FETCHED
from curation.runner import redirects
from curation.runner.redirects import Trail
from curation.table import packs, parquet, schemas
from curation.table.uids import uid_of_url
from pipeline import storage

URLS = pa.schema([pa.field("uid", pa.string()), pa.field("url", pa.string())])
WANTED = URLS.append(pa.field("before", pa.bool_()))  # before: asked for before, and it failed in passing
_UIDS = pa.schema([pa.field("uid", pa.string())])


@dataclass(frozen=True)
class Plan:
    """One download. folder: of its files; asking: the runs of parts whose mentions count, the first; runs: all."""

    folder: str
    settings: FetchSettings
    slots: int
    asking: int
    runs: int

    def file(self, name: str) -> str:
        return storage.join(self.folder, name)

    @property
    def revisits(self) -> Trail:
        return Trail(self.file("revisits"), self.folder, self.runs, of_revisits=True)


def merge(job: Job, plan: Plan, run: int, parts: Sequence[str]) -> None:
    """Merges some parts into one run."""
    done = plan.file(f"run-{run:05d}.json")
    if storage.read_state(done) is None:
        storage.publish_state(done, {}, runs.publish_run(plan.folder, run, job.pool, parts, job.cut))


def asked(job: Job, plan: Plan, hop: int, bucket: int, leads: Sequence[str]) -> dict[str, int]:
    """What one bucket asks for at a hop; returns how many `urls` are to be downloaded, and `leads` found. `leads`: the
    packs of all that the hop before led to."""
    name = f"{hop}-{bucket:05d}"
    state = storage.read_state(plan.file(f"asked-{name}.json"))
    if state is not None:
        return state
    wanted = _mentioned(plan, bucket) if hop == 0 else _led_to(job, plan, hop, bucket, leads)
    urls, onward = _unknown(job, plan, bucket, wanted) if wanted.num_rows else (WANTED.empty_table(), wanted)
    files = {f"asked-{name}.parquet": parquet.publish_rows(plan.file(f"asked-{name}.parquet"), wanted.select(["uid"]))}
    if urls.num_rows:
        slot_of = np.array([slot_of_url(url, plan.slots) for url in urls.column("url").to_pylist()])
        files[f"urls-{name}.pack"] = packs.publish_cut(plan.file(f"urls-{name}.pack"), urls, slot_of, plan.slots)
    if onward.num_rows:
        at = job.cut.bucket_of(onward.column("uid"))
        files[f"leads-{name}.pack"] = packs.publish_cut(plan.file(f"leads-{name}.pack"), onward, at, job.buckets)
    counts = {"urls": urls.num_rows, "leads": onward.num_rows}
    storage.publish_state(plan.file(f"asked-{name}.json"), counts, files)
    return counts


def slot_of_url(url: str, slots: int) -> int:
    """All urls of one host, whatever the port, have the same."""
    host = url.split("/", 3)[2]
    host = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    return int.from_bytes(hashlib.blake2b(host.encode(), digest_size=8).digest(), "little") % slots


def _mentioned(plan: Plan, bucket: int) -> pa.Table:
    """URLS that mentions name, one of each uid."""
    tables = runs.read_bucket(plan.folder, range(plan.asking), runs.OCCURRENCES, bucket)
    found = [URLS.empty_table()]
    for table in tables:
        plain = pa.table([table.column("uid"), table.column("url").cast(pa.string())], schema=URLS)
        found.append(_one_each(plain))
    return _one_each(pa.concat_tables(found))


def _one_each(rows: pa.Table) -> pa.Table:
    """The smallest url of each uid: that of the pair."""
    rows = rows.filter(pc.not_equal(rows.column("url"), ""))
    rows = rows.group_by("uid").aggregate([("url", "min")]).sort_by("uid")
    return pa.table([rows.column("uid"), rows.column("url_min")], schema=URLS)


def _led_to(job: Job, plan: Plan, hop: int, bucket: int, leads: Sequence[str]) -> pa.Table:
    """URLS that redirects lead to and no hop before has asked for."""
    found = [table for url in leads for table in packs.read_pack(url, bucket, bucket + 1)]
    rows = _one_each(packs.concat(found, URLS))
    before = asked_for(plan, hop, bucket)
    return rows.filter(pc.invert(pc.is_in(rows.column("uid"), before)))


def asked_for(plan: Plan, hops: int, bucket: int) -> pa.Array:
    """The uids that the first `hops` hops have asked for."""
    tables = [storage.read_parquet(plan.file(f"asked-{at}-{bucket:05d}.parquet")) for at in range(hops)]
    return pa.concat_tables([_UIDS.empty_table(), *tables]).column("uid").combine_chunks()


def _unknown(job: Job, plan: Plan, bucket: int, wanted: pa.Table) -> tuple[pa.Table, pa.Table]:
    """WANTED of those of which nothing is had, and URLS that known redirects of the others lead to.

    Had are stored bytes, those of the capture that a revisit leads to, and what a download has told that has not passed
    by now. What a crawl could not have is asked for again, unless its owner has asked to keep it out.
    """
    tables = runs.read_bucket(plan.folder, range(plan.runs), runs.IMAGES, bucket)
    images = captures.coded(
        [t.filter(pc.is_in(t.column("uid"), wanted.column("uid").combine_chunks())) for t in tables], schemas.IMAGES
    )
    best = images.plain(captures.best_images(images), schemas.IMAGES)
    tags = captures.united(images, ["uid"], "x_robots_tag")
    out = pa.array([uid for (uid,), text in tags.items() if hit(plan.settings.opt_out, text)], pa.string())
    is_stored = pc.is_valid(best.column("size"))
    moved = pc.and_(pc.not_equal(best.column("location"), ""), pc.not_equal(best.column("problem"), schemas.REVISIT))
    leads = best.filter(pc.and_(pc.invert(is_stored), moved))
    leads = leads.filter(pc.invert(pc.is_in(leads.column("uid"), out)))
    told = downloaded(images.plain(images.table, schemas.IMAGES))
    passing = is_passing(told, plan.settings)
    before = told.filter(passing).column("uid").combine_chunks()
    told = told.filter(pc.invert(passing))
    revisited = redirects.followed(job, plan.revisits, bucket).found
    revisited = revisited.filter(pc.is_valid(revisited.column("size"))).column("origin")
    settled = [best.filter(is_stored).column("uid"), leads.column("uid"), told.column("uid"), revisited]
    settled.append(pa.chunked_array([out]))
    known = pa.chunked_array([chunk for each in settled for chunk in each.chunks], pa.string()).combine_chunks()
    targets = sorted(set(leads.column("location").to_pylist()))
    onward = pa.table([pa.array(map(uid_of_url, targets), pa.string()), pa.array(targets, pa.string())], schema=URLS)
    urls = wanted.filter(pc.invert(pc.is_in(wanted.column("uid"), known)))
    return urls.append_column(WANTED.field("before"), pc.is_in(urls.column("uid"), before)), onward


def downloaded(images: pa.Table) -> pa.Table:
    """The rows of IMAGES that a download has made."""
    return images.filter(pc.starts_with(images.column("part"), FETCHED))


def is_passing(images: pa.Table, settings: FetchSettings) -> pa.ChunkedArray:
    """Which rows may be other ones by now."""
    statuses = pa.array(settings.retry_statuses, pa.int32())
    by_status = pc.and_(pc.is_in(images.column("status"), statuses), pc.equal(images.column("problem"), ""))
    return pc.or_(pc.is_in(images.column("problem"), pa.array(PASSING)), by_status)
