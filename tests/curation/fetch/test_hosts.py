"""Which url is asked next, at times that the test makes up."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from curation.fetch.hosts import Hosts, Wanted
from curation.fetch.network import Origin
from curation.fetch.outcome import Outcome
from curation.fetch.settings import FetchSettings

GOOD = Outcome("", 200)
BUSY = Outcome("", 429, is_passing=True)
BROKEN = Outcome("", 500, is_passing=True)
FORBIDDEN = Outcome("", problem="robots_txt", asked=False)
GONE = Outcome("", problem="dns", is_passing=True)


def hosts(urls, **more):
    found = Hosts(FetchSettings(**{"host_connections": 2, "backoff_s": 1.0, "max_backoff_s": 60.0, **more}))
    for url in urls:
        found.add(Wanted(url, Origin.of(url)))
    return found


def taken(waiting, now):
    """All that may be asked at once."""
    found = []
    while (each := waiting.next(now)[0]) is not None:
        found.append(each)
    return found


def urls(host, number):
    return [f"http://{host}/{n}" for n in range(number)]


def test_hosts_take_turns_and_none_has_more_than_its_share():
    waiting = hosts([*urls("large.test", 50), *urls("small.test", 1), *urls("other.test", 3)])
    first = taken(waiting, 0.0)
    assert [each.origin.host for each in first] == [
        "large.test",
        "small.test",
        "other.test",
        "large.test",
        "other.test",
    ]
    assert waiting.next(0.0)[2] == float("inf") and waiting.left == 49
    waiting.answered(first[0], GOOD, 1.0)
    assert [each.url for each in taken(waiting, 1.0)] == ["http://large.test/2"]


def test_a_rate_is_of_the_host_and_waits_for_no_thread():
    waiting = hosts([*urls("a.test", 3), *urls("b.test", 1)], host_rate=2.0, host_connections=8)
    assert [each.url for each in taken(waiting, 0.0)] == ["http://a.test/0", "http://b.test/0"]
    assert waiting.next(0.0)[2] == 0.5
    assert [each.url for each in taken(waiting, 0.6)] == ["http://a.test/1"]


def test_a_rate_holds_at_any_time_of_day_and_a_robots_txt_does_not_raise_it():
    waiting = hosts(urls("a.test", 3), host_rate=2.0, host_connections=8)
    assert len(taken(waiting, 1000.0)) == 1
    waiting.delay("a.test", 0.0)  # it asks for no delay
    assert waiting.next(1000.0)[2] == 0.5 and taken(waiting, 1000.4) == []
    assert len(taken(waiting, 1000.5)) == 1
    waiting.delay("a.test", 3.0)
    assert len(taken(waiting, 1001.0)) == 1
    slow = hosts(urls("b.test", 3), host_rate=2.0, host_connections=8)
    slow.delay("b.test", 3.0)
    assert len(taken(slow, 1000.0)) == 1 and slow.next(1000.0)[2] == 3.0


def test_what_robots_txt_forbids_says_nothing_of_how_a_server_does():
    """Its answers that fail count up to the end, whatever is not asked between them."""
    waiting = hosts(urls("a.test", 12), host_connections=1, host_failures=3, retries=0)
    now, outcomes = 1000.0, [BROKEN, FORBIDDEN, BROKEN, FORBIDDEN, BROKEN]
    for outcome in outcomes:
        wanted, _, wait = waiting.next(now)
        if wanted is None:
            now += wait
            wanted, _, _ = waiting.next(now)
        waiting.answered(wanted, outcome, now)
    assert waiting.next(now)[1] is not None  # given up: the others end with what it failed by


def test_what_failed_in_passing_is_asked_again_a_bounded_number_of_times():
    waiting, now = hosts(urls("a.test", 1), retries=2), 0.0
    for attempt in range(3):
        [each] = taken(waiting, now)
        assert waiting.answered(each, BROKEN, now) == (attempt == 2)
        assert taken(waiting, now) == []
        now += 100
    assert waiting.left == 0


def test_what_is_gone_for_good_is_not_asked_again():
    waiting = hosts(urls("a.test", 1))
    [each] = taken(waiting, 0.0)
    assert waiting.answered(each, Outcome("", 404), 0.0) and waiting.left == 0


def test_a_server_that_asks_to_wait_is_left_alone_for_so_long_and_others_are_not():
    waiting = hosts([*urls("a.test", 3), *urls("b.test", 3)], retries=5)
    first = taken(waiting, 0.0)
    waiting.answered(next(each for each in first if each.origin.host == "a.test"), replace(BUSY, retry_after=30.0), 0.0)
    waiting.answered(next(each for each in first if each.origin.host == "b.test"), GOOD, 0.0)
    assert {each.origin.host for each in taken(waiting, 29.0)} == {"b.test"}
    assert {each.origin.host for each in taken(waiting, 30.1)} == {"a.test"}


def test_who_asks_for_longer_than_we_wait_is_given_up_with_what_it_said():
    waiting = hosts(urls("a.test", 5), host_connections=1)
    [each] = taken(waiting, 0.0)
    assert waiting.answered(each, replace(BUSY, retry_after=3600.0), 0.0)
    rest = [waiting.next(0.0) for _ in range(4)]
    assert {each.url for each, _, _ in rest} == set(urls("a.test", 5)[1:]) and {why.status for _, why, _ in rest} == {
        429
    }
    assert waiting.next(0.0)[0] is None and waiting.left == 0


def test_a_host_that_answers_nothing_but_429_is_asked_ever_less_and_then_left_alone():
    waiting, now, times, given_up = hosts(urls("a.test", 1000), host_connections=1, retries=20), 0.0, [], 0
    while waiting.left:
        each, why, wait = waiting.next(now)
        if each is None:
            now += wait
        elif why is not None:
            given_up += 1
        else:
            times.append(now)
            given_up += waiting.answered(each, BUSY, now)
    gaps = [after - before for before, after in zip(times, times[1:], strict=False)]
    assert gaps == sorted(gaps) and gaps[0] >= 1.0 and len(times) == 10 and given_up == 1000


def test_a_name_that_does_not_resolve_costs_a_few_looks_however_many_urls_it_has():
    waiting, now, looks = hosts(urls("gone.test", 10_000), retries=2), 0.0, 0
    while waiting.left:
        each, why, wait = waiting.next(now)
        if each is None:
            now += wait
        elif why is None:
            looks += 1
            waiting.answered(each, GONE, now)
    assert looks <= 4


def test_a_server_that_is_given_up_takes_no_other_of_its_host_along():
    waiting = hosts([*urls("a.test:81", 40), *urls("a.test", 3)], retries=2)
    now, ended = 0.0, []
    while waiting.left:
        each, why, wait = waiting.next(now)
        if each is None:
            now += wait
        elif why is not None:
            ended.append((each.origin.port, why.problem))
        elif waiting.answered(each, GONE if each.origin.port == 81 else GOOD, now):
            ended.append((each.origin.port, "dns" if each.origin.port == 81 else ""))
    assert sorted(ended) == [(80, "")] * 3 + [(81, "dns")] * 40


def test_what_a_session_knew_of_hosts_holds_in_the_next():
    waiting = hosts(urls("a.test", 2), host_connections=1)
    [each] = taken(waiting, 0.0)
    waiting.answered(each, replace(BUSY, retry_after=30.0), 0.0)
    assert waiting.plain() == {"http://a.test:80/robots.txt": (30.0, 1)} and waiting.attempts() == {
        "http://a.test/0": 1
    }
    again = Hosts(FetchSettings(), waiting.plain())
    again.add(Wanted("http://a.test/1", Origin.of("http://a.test/1")))
    assert taken(again, 29.0) == [] and len(taken(again, 31.0)) == 1


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=40),
    st.lists(st.sampled_from([GOOD, BUSY, BROKEN, GONE, replace(BUSY, retry_after=5.0)]), min_size=1, max_size=20),
    st.integers(1, 3),
    st.integers(0, 3),
)
def test_every_url_ends_once_within_the_limits_of_its_host(places, answers, connections, retries):
    wanted = [f"http://host-{host}.test/{n}" for n, host in enumerate(places)]
    waiting = hosts(wanted, host_connections=connections, retries=retries, host_failures=4)
    flying, ended, now, step = [], [], 0.0, 0
    while waiting.left or flying:
        each, why, wait = waiting.next(now)
        if why is not None:
            ended.append(each.url)
            continue
        if each is not None:
            flying.append(each)
            active = [one.origin.host for one in flying]
            assert max(active.count(host) for host in active) <= connections
            continue
        if flying:
            one = flying.pop(step % len(flying))
            if waiting.answered(one, answers[step % len(answers)], now):
                ended.append(one.url)
            assert one.attempts <= retries + 1
            step += 1
        else:
            assert wait < float("inf")
            now += max(wait, 0.001)
    assert sorted(ended) == sorted(wanted)
