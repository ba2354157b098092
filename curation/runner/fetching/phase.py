"""The download: between the pool and the join, of what inputs mention and the pool does not hold.

    <pool>/fetched/<policy>-<inputs>.json   a download that is finished: what names it, its parts, counts

It begins anew at every start, from what is in the pool: what was committed is known, all else is asked for. What came
of it is an input like any other, so a job is named by it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from curation.fetch.outcome import NOT_ASKED
from curation.fetch.settings import FetchSettings
from curation.job import Job, cut_for, read_from
from curation.pool import runs
from curation.pool.redirects import HOPS
from curation.pool.store import ROWS
from curation.runner import joined, redirects
from curation.runner.calls import Call, Do
from curation.runner.fetching import asking, counting, slots
from curation.runner.fetching.asking import Plan
from curation.runner.inputs.naming import Parts
from curation.runner.inputs.pooling import Pooled, add_sound
from curation.settings import CurateSettings
from curation.table import packs
from curation.table.uids import power_of_two
from pipeline import storage
from pipeline.contract.manifest import InputPart
from pipeline.errors import RecipeError, Stopped
from pipeline.log import get_logger
from pipeline.progress import Meter, progress
from pipeline.settings import digest_of

log = get_logger("curation")
_SLOT_ROWS, _MOST_SLOTS = 5_000, 16_384
_FAN = 256  # packs that a task reads one by one; more are merged, so many at a time


@dataclass(frozen=True)
class Fetched:
    """A download that is finished. id: 16 hex naming what came of it; passing: failures that may have passed; hosts:
    counts by class of host."""

    id: str
    parts: tuple[str, ...]
    counts: dict[str, int]
    bytes: int
    passing: int
    hosts: dict[str, dict[str, int]]

    def as_input(self) -> InputPart:
        return InputPart(part=self.id, path="(downloaded)", bytes=self.bytes, digest=self.id, counts=self.counts)

    def as_download(self) -> dict[str, Any]:
        """For the summary."""
        found = {"bytes": self.bytes, "passing": self.passing, "counts": self.counts, "hosts": self.hosts}
        return {**found, "not_asked": list(NOT_ASKED)}


def check(settings: CurateSettings) -> None:
    """RecipeError when something is to be downloaded and what does it is not installed."""
    if settings.fetching is not None and find_spec("img2dataset") is None:
        hint = "pip install 'clipmill[curate]', or curate.fetch=false"
        raise RecipeError("curate.fetch", "img2dataset is not installed", "the package that downloads", hint)


def finished(settings: CurateSettings, parts: Parts) -> Fetched | None:
    """The download for these parts, where there is one and nothing of it is to be tried again."""
    fetching = settings.fetching
    state = storage.read_state(_state_url(settings, parts)) if fetching else None
    if state is None or fetching is None or (fetching.retry and state["passing"]):
        return None
    names = ("id", "parts", "counts", "bytes", "passing")
    told = {name: state[name] for name in names} | {"parts": tuple(state["parts"])}
    return Fetched(**told, hosts=state.get("hosts", {}))


def _state_url(settings: CurateSettings, parts: Parts) -> str:
    how = "urls alone" if settings.fetch is None else True
    inputs = sorted([part.id, str(how if settings.is_fetched(at) else False)] for at, part in parts)
    return storage.join(settings.pool_folder, "fetched", f"{slots.policy_of(settings)}-{digest_of(inputs)}.json")


def fetch(job: Job, parts: Parts, pool: Pooled, give: Callable[[Job], None], do: Do, quiet: bool) -> Fetched:
    """Downloads what is not had, and adds its parts to `pool`. `give` ships the job to the tasks."""
    fetching, before = job.settings.fetching, finished(job.settings, parts)
    assert fetching is not None
    known = _known(job, do)
    if before is not None and set(before.parts) <= set(known.pieces):
        pool.pieces |= {part: known.pieces[part] for part in before.parts}
        return before
    work = _Fetching.planned(job, fetching, parts, pool, known, give, do, quiet)
    hops = work.run()
    known = _known(job, do)
    found = work.counted(sorted(known.pieces), hops)
    work.check_whole(found)
    url = _state_url(job.settings, parts)
    storage.publish_state(url, {name: getattr(found, name) for name in Fetched.__annotations__})
    pool.pieces |= known.pieces
    if found.passing:
        log.info("%d urls failed in passing; curate.fetch.retry=true asks for them once more", found.passing)
    return found


def _known(job: Job, do: Do) -> Pooled:
    """What has been downloaded under these settings, for whatever job, as it was written."""
    found, prefix = Pooled(), slots.part_prefix(job.settings)
    folders = storage.list_folders(storage.join(job.pool, "parts"))
    names = [name for name in folders if name.startswith(prefix)]
    add_sound(job, names, do, found)
    if job.settings.pool is None:  # else another job may be about to commit them
        for name in set(names) - set(found.pieces):
            storage.remove(storage.join(job.pool, "parts", name), recursive=True)
    return found


@dataclass
class _Fetching:
    job: Job
    plan: Plan
    known: list[str]
    do: Do
    quiet: bool

    @classmethod
    def planned(
        cls,
        job: Job,
        fetching: FetchSettings,
        parts: Parts,
        pool: Pooled,
        known: Pooled,
        give: Callable[[Job], None],
        do: Do,
        quiet: bool,
    ) -> "_Fetching":
        """Parts merged and cut by bucket; those whose mentions count first. Not, unless it is said, those of a table
        that holds images: what such a table lacks, somebody has asked for."""
        own = {part for part, counts in pool.parts.items() if counts.get("images") and job.settings.fetch is None}
        counted = {part.id for at, part in parts if job.settings.is_fetched(at)} - own
        first = sorted(piece for piece in pool.pieces if pool.owners[piece] in counted)
        rest = sorted([*(piece for piece in pool.pieces if pool.owners[piece] not in counted), *known.pieces])
        rows = sum(each.get(name, 0) for some in (pool, known) for each in some.pieces.values() for name in ROWS)
        job = read_from(job, [*pool.pieces, *known.pieces])
        give(job)
        job = cut_for(job, joined.cut_of(job, rows, do), rows)
        give(job)
        mentions = sum(pool.pieces[piece].get("occurrences", 0) for piece in first)
        number = min(power_of_two(-(-mentions // _SLOT_ROWS)), _MOST_SLOTS)
        groups = [runs.groups_of(first), runs.groups_of(rest)]
        name = digest_of([first, rest, fetching, list(job.cut.edges)])
        folder = storage.join(job.work, f"fetch-{name}")
        plan = Plan(folder, fetching, number, len(groups[0]), len(groups[0]) + len(groups[1]))
        work = cls(job, plan, sorted(known.pieces), do, quiet)
        work.merge([*groups[0], *groups[1]], 0)
        redirects.follow(job, plan.revisits, [*groups[0], *groups[1]], pool.pieces, do)
        return work

    def merge(self, groups: Sequence[Sequence[str]], first: int) -> None:
        calls = [
            Call(asking.merge, (self.plan, first + at, group), f"parts {group[0]} and on")
            for at, group in enumerate(groups)
        ]
        for _ in self.do(calls, "looking for images to download", "groups"):
            pass

    def run(self) -> int:
        """Hop by hop; returns how many there were."""
        leads: list[str] = []
        for hop in range(HOPS + 1):
            leads = self._together(leads, f"leads-{hop - 1}", self.job.buckets)
            calls = [
                Call(asking.asked, (self.plan, hop, bucket, leads), f"images to download, bucket {bucket}")
                for bucket in range(self.job.buckets)
            ]
            found = {call.args[2]: told for call, told in self.do(calls, "looking for images to download", "buckets")}
            file = self.plan.file
            urls = [file(f"urls-{hop}-{bucket:05d}.pack") for bucket in sorted(found) if found[bucket]["urls"]]
            leads = [file(f"leads-{hop}-{bucket:05d}.pack") for bucket in sorted(found) if found[bucket]["leads"]]
            if urls:
                total = sum(each["urls"] for each in found.values())
                done = self._download(hop, self._together(urls, f"urls-{hop}", self.plan.slots), total)
                leads += [file(f"leads-{hop}-slot-{slot:05d}.pack") for slot in sorted(done) if done[slot]]
            if not leads:
                return hop + 1
        return HOPS + 1

    def _together(self, urls: list[str], name: str, number: int) -> list[str]:
        """Packs as few as a task can read one by one."""
        if len(urls) <= _FAN:
            return urls
        groups = [urls[at : at + _FAN] for at in range(0, len(urls), _FAN)]
        names = [self.plan.file(f"{name}-merged-{at:05d}.pack") for at in range(len(groups))]
        calls = [Call(together, (url, group, number), name) for url, group in zip(names, groups, strict=True)]
        for _ in self.do(calls, "looking for images to download: bring together", "groups"):
            pass
        return names

    def _download(self, hop: int, urls: list[str], total: int) -> dict[int, int]:
        """All slots, in turns; returns how many leads each found. Stopped when hardly anything is had."""
        label = "downloading" if hop == 0 else f"downloading, redirect {hop}"
        leads: dict[int, int] = {}
        reasons: Counter[str] = Counter()
        with progress(total, label, "urls", quiet=self.quiet) as meter:
            number = 0
            while len(leads) < self.plan.slots:
                seconds = slots.pace(number)
                calls = [
                    Call(slots.turn, (self.plan, hop, slot, urls, seconds), f"downloading, slot {slot}")
                    for slot in range(self.plan.slots)
                    if slot not in leads
                ]
                counted = good = 0
                for call, told in self._turns(calls, meter, reasons):
                    counted, good = counted + told["counted"], good + told["good"]
                    if told["is_done"]:
                        leads[call.args[2]] = told["leads"]
                self._check(counted, good, reasons)
                number += 1
        return leads

    def _turns(self, calls: list[Call], meter: Meter, reasons: Counter[str]) -> Iterator[tuple[Call, dict[str, Any]]]:
        for call, told in self.do(calls, "", "slots"):
            reasons.update(told["reasons"])
            meter.text = f"{reasons[''] / max(reasons.total(), 1):.0%} had"
            meter.advance(sum(told["reasons"].values()))
            yield call, told

    def _check(self, counted: int, good: int, reasons: Counter[str]) -> None:
        """Of urls that were asked for the first time in this turn."""
        settings = self.plan.settings
        if counted >= settings.window and good < settings.min_success * counted:
            raise self._stopped(counted, good, reasons)

    def check_whole(self, found: Fetched) -> None:
        """Before a download is called finished, and is asked for again only when it is told to: something was had."""
        settings, counts = self.plan.settings, found.counts
        reasons = Counter({name.removeprefix("failed:"): n for name, n in counts.items() if name.startswith("failed:")})
        total = counts["urls"] - sum(reasons[name] for name in NOT_ASKED)
        good = counts.get("images_stored", 0) + counts.get("redirects", 0)
        if found.passing and good < settings.min_success * total and (total >= settings.window or not good):
            raise self._stopped(total, good, reasons)

    def _stopped(self, counted: int, good: int, reasons: Counter[str]) -> Stopped:
        settings = self.plan.settings
        most = ", ".join(f"{name} {n}" for name, n in reasons.most_common(4) if name)
        hint = (
            "look at the network and name servers of the machines that download; the same command goes on, and asks "
            "again for what failed in passing; curate.fetch.min_success=0 goes on whatever comes"
        )
        found = f"only {good} of {counted} urls were had, so the download has stopped (it failed most by {most})"
        return Stopped("curate.fetch", found, f"at least {settings.min_success:.0%} (curate.fetch.min_success)", hint)

    def counted(self, parts: list[str], hops: int) -> Fetched:
        """What came of it, by all parts that there are now."""
        new = [part for part in parts if part not in set(self.known)]
        groups = runs.groups_of(new)
        self.merge(groups, self.plan.runs)
        number = self.plan.runs + len(groups)
        calls = [
            Call(counting.count, (self.plan, bucket, number, hops), f"counting what was downloaded, bucket {bucket}")
            for bucket in range(self.job.buckets)
        ]
        total = size = passing = 0
        counts: Counter[str] = Counter()
        hosts: dict[str, Counter[str]] = {}
        for _, told in self.do(calls, "counting what was downloaded", "buckets"):
            total += int(told["sum"], 16)
            size, passing = size + told["bytes"], passing + told["passing"]
            counts.update(told["counts"])
            for kind, mine in told["hosts"].items():
                hosts.setdefault(kind, Counter()).update(mine)
        name = digest_of([slots.policy_of(self.job.settings), f"{total % counting.MODULUS:032x}", counts["urls"]])
        plain = {kind: dict(sorted(mine.items())) for kind, mine in sorted(hosts.items())}
        return Fetched(name, tuple(parts), dict(sorted(counts.items())), size, passing, plain)


def together(job: Job, url: str, urls: Sequence[str], number: int) -> None:
    """Merges packs into one."""
    if not storage.exists(url):
        packs.publish_pack(url, (packs.concat(found, asking.WANTED) for found in packs.by_slot(urls, number)), number)
