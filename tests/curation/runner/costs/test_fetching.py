"""A download runs the tasks, writes the files and opens the packs and tables that the formulae say."""

from collections import Counter

import pytest

from curation.runner import driver
from curation.runner.costs import fetching
from curation.runner.costs.cost import Cost
from curation.runner.costs.fetching import Hop
from curation.runner.fetching import asking, phase, slots
from curation.settings import CurateSettings
from tests.helpers import downloads
from tests.helpers.benchmarks import imported
from tests.helpers.web import web

counts = imported("counts")


@pytest.mark.parametrize(("buckets", "slot_rows"), [(4, 5_000), (2, 20)])
def test_of_a_small_crawl(tmp_path, monkeypatch, buckets, slot_rows):
    monkeypatch.setattr(phase, "_SLOT_ROWS", slot_rows)
    with web() as server:
        downloads.serve(server)
        plain = downloads.recipe(tmp_path, downloads.pages(server), files=2, fetch={"commit_urls": 7}, buckets=buckets)
        with counts.Counts() as seen:
            driver.curate(CurateSettings.model_validate(plain), name="t", seed=3, quiet=True)

    calls = Counter(call.function for area, call, _ in seen.calls if area == counts.FETCHING)
    plan = next(call.args[0] for _, call, _ in seen.calls if call.function is asking.asked)
    asked = [told for _, call, told in seen.calls if call.function is asking.asked]
    with_urls = sum(told["urls"] > 0 for told in asked)
    parts = len(list((tmp_path / "out/_pool/parts").glob("fetched-*")))
    filled = len({call.args[2] for _, call, told in seen.calls if call.function is slots.turn and told["reasons"]})
    hop = Hop(urls=with_urls)
    new = calls[asking.merge] - plan.runs
    expected = fetching.merging(2, plan.runs) + fetching.merging(parts, new)
    expected += fetching.asking(buckets, plan.asking, plan.runs, 0, hop)
    expected += fetching.downloading(plan.slots, with_urls, filled, parts, hop)
    expected += fetching.counting(buckets, plan.runs, new, 1)
    assert parts > 3 and calls[asking.asked] == buckets and plan.slots == (1 if slot_rows > 1000 else 4)
    assert seen.cost(counts.FETCHING) == expected != Cost()
