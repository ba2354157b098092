"""What a stage that generates would ask if the run went on: how many requests, of how many tokens, and some of them.

Nothing is asked, measured or claimed. The rows with the smallest keys speak for all: keys are hashes, so that these are
a sample by chance, and the same one whatever the cut.
"""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.generation.estimate import tokens_of
from curation.generation.request import Request
from curation.job import Job, Segment
from curation.methods.units import KEY, keys_of, units_of
from curation.pool import accounts
from curation.pool.columns import COLUMNS
from curation.pool.store import PLACE, ImagePlace, ImageReader
from curation.runner import exchange
from curation.runner.calls import Call, Do
from curation.runner.closing import answers
from curation.runner.closing.closer import number_of
from curation.runner.closing.measuring import ASKED, RUN_ROWS
from curation.runner.closing.served.kept import known_of
from curation.runner.closing.served.told import priced
from curation.runner.closing.shares import columns_of, known_in
from curation.runner.exchange import FROM
from curation.stage import IMAGE, Generate, Stage
from curation.stage_order import added
from curation.table import arrow, captions
from curation.table.arrow import whole
from pipeline import storage
from pipeline.images.thumbnail import thumbnail

SAMPLE, PROMPTS = 200, 10
"""Requests of a stage that are put together to estimate tokens; and how many of them are shown."""


def now(job: Job, here: Segment, asked: Mapping[int, Mapping[str, Any]], do: Do) -> dict[str, Any]:
    """Of the stage that ends `here`, whose inputs are all known: exact numbers of requests, answered and not."""
    name, number = job.names[number_of(here)], sum(asked[bucket].get("inputs", 0) for bucket in range(job.buckets))
    if exchange.is_done(job, here, answers.CLOSED):
        state = storage.read_state(job.closing_file(here, answers.CLOSED)) or {}
        inputs = state.get("asked", {}).get("inputs", number)
        known = inputs * _asking(job, number_of(here)).samples
        return told(job, number_of(here), none() | {"known": known})
    urls = [job.file(here, bucket, ASKED) for bucket in range(job.buckets)]
    calls = [
        Call(of_run, (here.index, run, urls), f"stage {name}, looking up")
        for run in exchange.runs(job.buckets, number, RUN_ROWS)
    ]
    return told(job, number_of(here), merged(result for _, result in do(calls, f"{name}: look up", "runs")))


def later(job: Job, here: Segment, at: int, do: Do) -> dict[str, Any]:
    """Of stage `at`, behind the one that ends `here`: about so many requests, since what those between drop, add and
    answer is not known, nor then what is answered already. Prompts say <name> where a column is still to come."""
    name = job.names[at]
    calls = [Call(of_bucket, (here.index, at, bucket), f"stage {name}, counting") for bucket in range(job.buckets)]
    return told(job, at, merged(result for _, result in do(calls, f"{name}: count", "buckets"))) | {"about": True}


def none() -> dict[str, Any]:
    """new: inputs that lack answers; requests: to be sent for them; known: those that are answered, of any input."""
    return {"new": 0, "requests": 0, "known": 0, "sample": []}


def of_run(job: Job, index: int, slots: tuple[int, int], urls: list[str]) -> dict[str, Any]:
    """What `none` has, of a run of slots."""
    here = job.segments[index]
    stage = _asking(job, number_of(here))
    found = exchange.Sources(tuple(urls)).read(*slots)
    if not found:
        return none()
    rows = pa.concat_tables(found).drop_columns([FROM])
    rows = rows.sort_by([(name, "ascending") for name in (KEY, *PLACE) if name in rows.column_names]).combine_chunks()
    keys = whole(rows.column(KEY))
    again = pc.equal(keys.slice(1), keys.slice(0, max(len(keys) - 1, 0)))
    rows = rows.filter(pa.concat_arrays([pa.array([True]), pc.invert(again)])) if len(keys) else rows
    columns = columns_of(job, here)
    known = pc.is_in(whole(rows.column(KEY)), known_in(stage, columns.read(*slots)))
    new = rows.filter(pc.invert(known))
    some = {
        key: set(own) & set(range(stage.samples))
        for key, own in known_of(stage, columns, whole(new.column(KEY)), slots).items()
    }
    answered = sum(map(len, some.values()))
    is_whole = pa.array([len(some.get(key, ())) == stage.samples for key in new.column(KEY).to_pylist()], pa.bool_())
    left = new.filter(pc.invert(is_whole))
    return {
        "new": left.num_rows,
        "requests": new.num_rows * stage.samples - answered,
        "known": (rows.num_rows - new.num_rows) * stage.samples + answered,
        "sample": _sample(job, stage, left, some),
    }


def of_bucket(job: Job, index: int, at: int, bucket: int) -> dict[str, Any]:
    """The same of the distinct inputs in a bucket, none of them looked up."""
    here, stage = job.segments[index], _asking(job, at)
    pairs = storage.read_parquet(job.file(here, bucket, ".parquet"))
    pairs = _filled(pairs, stage.reads, job.settings.stages[:at])
    units = units_of(stage, pairs)
    rows = pa.table({KEY: keys_of(stage, units, {})})
    if IMAGE in stage.reads and stage.unit in ("image", "pair"):
        rows = pa.table([*rows.columns, *(pairs.column(name) for name in PLACE)], names=[KEY, *PLACE])
    for name in units.column_names:
        if name != IMAGE and name not in rows.column_names:
            rows = rows.append_column(name, units.column(name))
    first = pa.table({KEY: rows.column(KEY), "row": pa.array(range(rows.num_rows), pa.int64())})
    first = (
        first.filter(pc.is_valid(first.column(KEY)))
        .group_by(KEY, use_threads=False)
        .aggregate([("row", "min")])
        .column("row_min")
    )
    rows = rows.take(first).combine_chunks()
    return {
        "new": rows.num_rows,
        "requests": rows.num_rows * stage.samples,
        "known": 0,
        "sample": _sample(job, stage, rows, {}),
    }


def _filled(pairs: pa.Table, reads: Sequence[str], before: Sequence[Stage]) -> pa.Table:
    """With the columns and caption fields that are still to come: words as <name>, all else null."""
    types = {name: f.type for each in before for name, f in zip(added(each), each.adds, strict=False)}
    for name in reads:
        field = name.removeprefix("captions.")
        flat = captions.explode(pairs) if field != name else pairs
        if field in flat.column_names or name in (IMAGE, "captions"):
            continue
        kind = types.get(name, pa.string())
        words = pa.array([f"<{name}>"] * flat.num_rows, kind) if pa.types.is_string(kind) else None
        column = pa.table({field: pa.nulls(flat.num_rows, kind) if words is None else words})
        pairs = captions.with_fields(pairs, column) if field != name else arrow.with_columns(pairs, column)
    return pairs


def _asking(job: Job, at: int) -> Any:
    """A stage that generates: it has `requests(inputs, keys)`, a list of Request for each row, and `terms()`."""
    stage = job.stage(at)
    assert isinstance(stage, Generate)
    return stage


def _sample(job: Job, stage: Any, rows: pa.Table, known: Mapping[str, set[int]]) -> list[dict[str, Any]]:
    """Of the rows drawn: their place in the order, the tokens of their requests that are not `known`, and the first few
    requests."""
    drawn = heapq.nsmallest(SAMPLE, zip(rows.column(KEY).to_pylist(), range(rows.num_rows), strict=True))
    rows = rows.take(pa.array([row for _, row in drawn], pa.int64()))
    inputs, bodies = (
        rows.drop_columns([KEY, *(n for n in PLACE if n in rows.column_names and n not in stage.reads)]),
        None,
    )
    if IMAGE in stage.reads:
        reader = ImageReader(job.pool)
        places = zip(*(rows.column(name).to_pylist() for name in PLACE), strict=True)
        bodies = list(reader.read_all(ImagePlace(*place) for place in places))
        inputs = inputs.add_column(0, IMAGE, pa.array(bodies, pa.large_binary()))
    keys = rows.column(KEY).to_pylist()
    asked = [
        [each for each in requests if each.sample not in known.get(key, ())]
        for key, requests in zip(keys, stage.requests(inputs, keys), strict=True)
    ]
    return [
        {
            "order": order,
            "requests": len(requests),
            "tokens": sum(map(tokens_of, requests)),
            "prompt": prompt_of(requests[0], bodies[at] if bodies else None) if at < PROMPTS and requests else None,
        }
        for at, ((order, _), requests) in enumerate(zip(drawn, asked, strict=True))
    ]


def prompt_of(request: Request, body: bytes | None) -> dict[str, Any]:
    """A request to look at."""
    messages = [{"role": each.role, "text": each.text, "images": len(each.images)} for each in request.messages]
    return {"messages": messages, "thumb": thumbnail(body) if body else None}


def merged(results: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Adds up; the same in any order."""
    whole_of = none()
    for each in results:
        for name in ("new", "requests", "known"):
            whole_of[name] += each[name]
        whole_of["sample"] = sorted([*whole_of["sample"], *each["sample"]], key=lambda row: row["order"])[:SAMPLE]
    return whole_of


def told(job: Job, at: int, found: dict[str, Any]) -> dict[str, Any]:
    """What the dry run says of stage `at`. tokens_out: at most, where the recipe bounds an answer."""
    stage = _asking(job, at)
    sample: Sequence[dict[str, Any]] = found["sample"]
    drawn = sum(row["requests"] for row in sample)
    requests: int = found["requests"]
    tokens_in = round(requests * sum(row["tokens"] for row in sample) / drawn) if drawn else 0
    terms = stage.terms()
    tokens_out = None if terms.max_tokens is None else requests * terms.max_tokens
    money = None
    if terms.price_in or terms.price_out:
        money = (tokens_in * terms.price_in + (tokens_out or 0) * terms.price_out) / 1e6
    return {
        "stage": job.names[at],
        "digest": stage.digest(),
        "model": terms.model,
        "requests": requests,
        "inputs": found["new"],
        "known": found["known"],
        "about": False,
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "money": money,
        "spent": priced(stage, accounts.total(storage.join(job.pool, COLUMNS, stage.kept_digest()))),
        "prompts": [row["prompt"] for row in sample if row["prompt"]][:PROMPTS],
    }
