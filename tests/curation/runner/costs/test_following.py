"""Following redirects and revisits runs the tasks, writes the files and opens the packs that the formulae say."""

from collections import Counter, defaultdict
from functools import wraps

import pytest

from curation.pool import redirects as steps
from curation.pool import runs
from curation.runner import driver, redirects
from curation.runner.costs import following
from curation.runner.costs.cost import Cost
from curation.runner.costs.following import Look
from curation.settings import CurateSettings
from tests.helpers import downloads
from tests.helpers.benchmarks import imported
from tests.helpers.small_crawl import picture
from tests.helpers.warcs import http, record, sha1, zipped
from tests.helpers.web import web

counts = imported("counts")
SITE = "http://e.org"


def moved(name, to):
    return record(name, http(b"moved", "text/html", f"Location: {to}", status="301 Moved"))


def revisit(name, of, body):
    fields = {"WARC_Payload_Digest": sha1(body)} | ({"WARC_Refers_To_Target_URI": of} if of else {})
    return record(name, http(b""), "revisit", **fields)


def crawl(site=SITE):
    """Images at the end of chains of one to four, revisits of a named, another and no address, and lost ones."""
    names = [f"{kind}{number}.png" for kind in "abcdr" for number in range(6)]
    html = "".join(f"<img src=/{name} alt='a picture named {name}'>" for name in names)
    records = [record(f"{site}/", http(html.encode(), "text/html"))]
    for number in range(6):
        body, at = picture(number), {kind: f"{site}/{kind}{number}.png" for kind in "abcdrxyz"}
        nowhere = f"{site}/nowhere.png" if number % 2 else ""
        records += [
            record(at["x"], http(body)), moved(at["a"], at["x"]), revisit(at["c"], at["x"], body),
            moved(at["b"], at["y"]), moved(at["y"], at["z"]), moved(at["z"], at["x"]), moved(at["d"], at["c"]),
            revisit(at["r"], nowhere, body if number < 4 else b"had by nobody"),
        ]  # fmt: skip
    return records


@pytest.fixture
def looked(monkeypatch):
    """(of revisits alone, hop) -> buckets that were looked through for what was asked."""
    found, trails, one_slot, step = Counter(), [], redirects.one_slot, steps.step

    @wraps(one_slot)
    def noted(job, trail, hop, *more):
        trails.append((trail.of_revisits, hop))
        return one_slot(job, trail, hop, *more)

    monkeypatch.setattr(redirects, "one_slot", noted)
    monkeypatch.setattr(steps, "step", lambda *args: found.update(trails[-1:]) or step(*args))
    return found


def run(folder, files, records, **more):
    """What was counted, and (of revisits alone, function) -> [arguments, what it told]."""
    (folder / "in").mkdir()
    for number in range(files):
        (folder / "in" / f"{number}.warc.gz").write_bytes(zipped(*records[number::files]))
    plain = {"sources": [{"kind": "warc", "paths": [str(folder / "in")]}], "output": str(folder / "out")}
    plain |= {"ray": {"address": "inline"}, **more}
    with counts.Counts() as seen:
        driver.curate(CurateSettings.model_validate(plain), name="t", seed=0, quiet=True)
    calls = defaultdict(list)
    for area, call, told in seen.calls:
        if area == counts.FOLLOWING:
            calls[call.args[0].of_revisits, call.function.__name__].append((call.args, told))
    return seen.cost(counts.FOLLOWING), calls


def expected(calls, looked, buckets, of_revisits=False):
    """By the formulae; and what hops, runs and runs that redirect there were."""
    hops = defaultdict(list)
    trail, *_, redirecting = calls[of_revisits, "one_slot"][0][0]
    runs, redirecting = trail.runs, len(redirecting)
    for (_, hop, *_), told in calls[of_revisits, "one_slot"]:
        hops[hop].append(told)
    slots = len(hops[0])
    filled = {hop: {kind: sum(each[kind] > 0 for each in told) for kind in told[0]} for hop, told in hops.items()}
    lost, found, reached = (sum(each[kind] for each in filled.values()) for kind in ("lost", "found", "reached"))
    having = [rows for _, rows in calls[of_revisits, "find_originals"]]
    again = [rows for _, rows in calls[of_revisits, "ask_originals"]]
    whole = Cost()
    for hop, each in filled.items():
        asking = (
            sum(rows > 0 for rows in again) if hop == redirects._AT_ORIGINALS else filled.get(hop - 1, each)["asked"]
        )
        look = Look(looked[of_revisits, hop], sum(each.values()), asking)
        if hop:
            whole += following.hop(slots, runs, look)
        else:
            whole += following.first(buckets, slots, runs, redirecting, look, of_revisits=of_revisits)
    if having:
        whole += following.originals(buckets, slots, runs, lost)
        whole += following.asked_again(slots, sum(rows > 0 for rows in having), lost)
    return whole + following.gathered(slots, found, reached), (len(hops), runs, redirecting)


@pytest.mark.parametrize(("buckets", "files", "slots"), [(4, 1, 1), (16, 3, 8)])
def test_before_the_join(tmp_path, monkeypatch, looked, buckets, files, slots):
    monkeypatch.setattr(redirects, "SLOT_ROWS", 42 // slots + 1)  # as many redirects as there are
    counted, calls = run(tmp_path, files, crawl(), buckets=buckets)
    by_formula, there = expected(calls, looked, buckets)
    assert counted == by_formula and there == (5, files, files)
    assert len(calls[False, "gather"]) == slots and calls[False, "ask_originals"]


def test_of_runs_of_which_one_has_no_redirects(tmp_path, monkeypatch, looked):
    monkeypatch.setattr(runs, "PARTS", 1)
    page, *others = crawl()
    leads = [each for each in others if b"301 Moved" in each or b"WARC-Type: revisit" in each]
    stored = [page, *(each for each in others if each not in leads)]
    pairs = zip(leads, [*stored, *stored * len(leads)], strict=False)
    counted, calls = run(tmp_path, 2, [each for pair in pairs for each in pair], buckets=8)
    by_formula, there = expected(calls, looked, 8)
    assert counted == by_formula and there == (5, 2, 1)


def test_where_nothing_leads_elsewhere_a_file_says_so(tmp_path):
    page = record(f"{SITE}/", http(b"<img src=/a.png alt='a cat'>", "text/html"))
    counted, _ = run(tmp_path, 1, [page, record(f"{SITE}/a.png", http(picture(0)))], buckets=4)
    assert counted == Cost(files=1)


def test_before_a_download_and_before_the_join(tmp_path, looked):
    """The join's runs are those that the download made of parts, and those of what it had."""
    with web() as server:
        more = {"fetch": {**downloads.QUICK, "retries": 0}}
        counted, calls = run(tmp_path, 2, crawl(server.url("")), buckets=4, **more)
    before, _ = expected(calls, looked, 4, of_revisits=True)
    after, _ = expected(calls, looked, 4)
    assert counted == before + after and min(before.packs, after.packs) > 20
