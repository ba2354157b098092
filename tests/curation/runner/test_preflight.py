"""Before any work: tasks that no node can run, places and files that a node sees otherwise, each by its name."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow
import pytest

from curation.job import make_job
from curation.runner import driver
from curation.runner import preflight as module
from curation.runner.calls import Node
from curation.runner.driver import curate
from curation.runner.preflight import Input, preflight
from curation.settings import CurateSettings
from pipeline import storage
from pipeline.errors import DataError, RecipeError
from tests.helpers import small_crawl
from tests.helpers.places import ROOT

HERE, THERE = Node("0" * 8, "here", 4.0, 0.0), Node("1" * 8, "there", 2.0, 1.0)


class Nodes:
    """Nodes with folders of their own: a relative path leads elsewhere on each."""

    def __init__(self, *nodes: Node, homes: dict[str, Path] | None = None, grows: bool = False, codes=()) -> None:
        self._nodes, self._homes, self._grows, self._codes = nodes, homes or {}, grows, dict(codes)
        self.job = None

    def nodes(self):
        return list(self._nodes)

    def autoscales(self):
        return self._grows

    def is_shared(self):
        return bool(self._codes)

    def on_each_bare(self, nodes, function):
        for node in nodes:
            yield node, {**function(), **self._codes.get(node.name, {})}

    def on_each(self, nodes, function, *args):
        for node in nodes:
            before = os.getcwd()
            os.chdir(self._homes.get(node.name, before))
            try:
                result = function(self.job, node.id, *args)
            finally:
                os.chdir(before)
            yield node, result


@pytest.fixture(autouse=True)
def at_home(tmp_path, monkeypatch):
    for name in ("home", "away"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.setattr(module, "_PATIENCE_S", 0.0)


def job_of(folder: Path, output: str = "out", **more):
    entries = folder / "entries.json"
    plain = {**small_crawl.recipe(["x.warc.gz"], Path(output), entries, **more), "output": output}
    return make_job(CurateSettings.model_validate(plain), 0, [])


def looked(folder: Path, place: Nodes, inputs=(), **more) -> None:
    place.job = job_of(folder, **more)
    preflight(place, place.job, list(inputs))


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_place_that_all_see_passes_and_nothing_is_left(tmp_path):
    looked(tmp_path, Nodes(HERE, THERE), output=str(tmp_path / "shared"))
    assert names(tmp_path) == ["entries.json"]


def test_a_relative_place_is_refused_by_node_and_path_with_what_to_type(tmp_path):
    place = Nodes(HERE, THERE, homes={"there": tmp_path / "away"})
    with pytest.raises(RecipeError) as caught:
        looked(tmp_path, place)
    assert caught.value.where == "curate.output" and "node there, out: " in caught.value.found
    assert f"type the whole path, curate.output={tmp_path / 'home' / 'out'}," in caught.value.hint
    assert names(tmp_path) == ["entries.json"]  # nothing was put into the other folder


def test_a_pool_that_one_node_sees_otherwise_is_refused(tmp_path):
    place = Nodes(HERE, THERE, homes={"there": tmp_path / "away"})
    with pytest.raises(RecipeError, match=r"curate.pool: node there, pool: what .* has written there is not seen"):
        looked(tmp_path, place, output=str(tmp_path / "shared"), pool="pool")


def test_what_a_node_writes_must_be_seen_here(tmp_path, monkeypatch):
    """As on a node whose writes stay in its own memory, or where the folder is a copy."""
    real = storage.publish_bytes
    monkeypatch.setattr(
        module.storage, "publish_bytes", lambda url, data: None if url.endswith(THERE.id) else real(url, data)
    )
    with pytest.raises(RecipeError, match="node there, .*: what it writes there is not seen here"):
        looked(tmp_path, Nodes(HERE, THERE), output=str(tmp_path / "shared"))


def test_a_node_that_may_not_write_says_so(tmp_path, monkeypatch):
    real = storage.publish_bytes

    def refused(url, data):
        if url.endswith(THERE.id):
            raise PermissionError(13, "Permission denied", url)
        real(url, data)

    monkeypatch.setattr(module.storage, "publish_bytes", refused)
    with pytest.raises(RecipeError, match="node there, .*: it cannot be written to: .*Permission denied"):
        looked(tmp_path, Nodes(HERE, THERE), output=str(tmp_path / "shared"))


@pytest.mark.parametrize(("there", "said"), [(None, "no such file"), (b"12", "it has 2 bytes there and 3 where")])
def test_an_input_that_a_node_has_not_is_refused(tmp_path, there, said):
    (tmp_path / "home" / "x.warc").write_bytes(b"123")
    if there is not None:
        (tmp_path / "away" / "x.warc").write_bytes(there)
    place = Nodes(HERE, THERE, homes={"there": tmp_path / "away"})
    with pytest.raises(RecipeError, match=f"curate.sources.0.paths: node there, x.warc: {said}"):
        looked(tmp_path, place, [Input("curate.sources.0.paths", "x.warc", 3)], output=str(tmp_path / "shared"))


def test_a_list_that_differs_on_a_node_is_refused_with_both_digests(tmp_path):
    for name, content in (("home", ["cat"]), ("away", ["dog"])):
        (tmp_path / name / "list.json").write_text(json.dumps(content))
    stages = [{"kind": "concept_match", "entries": "list.json"}]
    place = Nodes(HERE, THERE, homes={"there": tmp_path / "away"})
    with pytest.raises(DataError) as caught:
        looked(tmp_path, place, output=str(tmp_path / "shared"), stages=stages)
    said, digest = str(caught.value), place.job.files[0].digest
    assert "curate.stages.0.entries: node " in said and "list.json has the digest " in said and digest in said
    (tmp_path / "away" / "list.json").unlink()
    with pytest.raises(DataError, match="cannot read list.json"):
        looked(tmp_path, place, output=str(tmp_path / "shared"), stages=stages)


def test_a_placement_larger_than_any_node_is_refused_unless_the_cluster_grows(tmp_path, caplog):
    large = {"placement": {"balance": {"cpus": 64}}, "output": str(tmp_path / "shared")}
    with pytest.raises(RecipeError) as caught:
        looked(tmp_path, Nodes(HERE, THERE), **large)
    assert str(caught.value).startswith(
        "curate.placement.balance: a task asks for 64 CPUs and 0 GPUs; the largest node, here, has 4 CPUs and 0 GPUs"
    )
    assert "hint: lower curate.placement.balance" in str(caught.value)
    looked(tmp_path, Nodes(HERE, THERE, grows=True), **large)
    assert "waiting for the cluster to start one" in caplog.text


def test_memory_that_no_node_can_promise_is_refused(tmp_path):
    asks = {"placement": {"balance": {"memory": 3 << 30}}, "output": str(tmp_path / "shared")}
    small, large = Node("0", "small", 4.0, 0.0, 1 << 30), Node("1", "large", 4.0, 0.0, 4 << 30)
    looked(tmp_path, Nodes(small, large), **asks)
    with pytest.raises(RecipeError, match=f"asks for 1 CPUs and 0 GPUs, {3 << 30} bytes of memory; .* small, has"):
        looked(tmp_path, Nodes(small), **asks)


@pytest.mark.parametrize(
    ("other", "said", "typed"),
    [
        ({"clipmill": "0123456789abcdef", "folder": "/opt"}, "clipmill 0123456789abcdef in /opt; ", "working_dir"),
        ({"clipmill": "none", "folder": ""}, "clipmill none; ", "pip install 'clipmill"),
        ({"Python": "3.9"}, "Python 3.9", "start Ray there with that Python"),
        ({"pyarrow": "1.0"}, "pyarrow 1.0", f"pip install pyarrow=={pyarrow.__version__}"),
    ],
)
def test_a_node_with_another_clipmill_is_refused_before_it_runs_any_of_it(tmp_path, other, said, typed):
    same = Nodes(HERE, THERE, codes={"here": {}})
    looked(tmp_path, same, output=str(tmp_path / "shared"))
    place = Nodes(HERE, THERE, codes={"there": other}, homes={"there": tmp_path / "nowhere"})
    with pytest.raises(RecipeError) as caught:
        looked(tmp_path, place, output=str(tmp_path / "shared"))
    assert caught.value.where == "curate.ray" and f"curate.ray: node there: {said}" in str(caught.value)
    assert typed in caught.value.hint


def test_the_probe_of_the_code_sees_one_changed_byte_and_needs_no_clipmill(tmp_path):
    """In a process that has other packages of these names, and gets the bytes of the function as Ray ships them."""
    import ray.cloudpickle as pickle

    (tmp_path / "probe").write_bytes(pickle.dumps(module.code_probe()))
    for name in ("curation", "pipeline"):
        shutil.copytree(ROOT / name, tmp_path / "copy" / name, ignore=shutil.ignore_patterns("__pycache__"))
    script = "import pickle, sys, json; print(json.dumps(pickle.load(open(sys.argv[1], 'rb'))()))"

    def probed(path: Path) -> dict:
        environment = {**os.environ, "PYTHONPATH": str(path), "PYTHONSAFEPATH": "1"}
        command = [sys.executable, "-c", script, str(tmp_path / "probe")]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    own = module.code_probe()()
    assert probed(tmp_path / "copy") == {**own, "folder": str(tmp_path / "copy")}
    with open(tmp_path / "copy" / "curation" / "job.py", "a") as file:
        file.write("#")
    assert probed(tmp_path / "copy")["clipmill"] not in (own["clipmill"], "none")


def test_cpus_and_gpus_must_be_on_one_node(tmp_path):
    both = {"balance": {"cpus": 3, "gpus": 1}}
    with pytest.raises(RecipeError, match="asks for 3 CPUs and 1 GPUs; the largest node, there, has 2 CPUs and 1 GPUs"):
        looked(tmp_path, Nodes(HERE, THERE), output=str(tmp_path / "shared"), placement=both)
    apart = {"balance": {"cpus": 4}, "exact_duplicates": {"cpus": 1, "gpus": 1}}  # in segments of their own
    looked(tmp_path, Nodes(HERE, THERE), output=str(tmp_path / "shared"), placement=apart)


def test_stages_that_share_a_task_must_fit_together(tmp_path):
    """Stages of one task ask for the same; those that differ never share one, so that each finds its node."""
    stages = [{"kind": kind} for kind in ("image_decode", "image_size", "caption_clean")]
    asks = {"image_size": {"cpus": 64}, "caption_clean": {"cpus": 64}}
    with pytest.raises(RecipeError, match=r"curate.placement.image_size: a task asks for 64 CPUs"):
        looked(tmp_path, Nodes(HERE, THERE), output=str(tmp_path / "shared"), stages=stages, placement=asks)
    apart = {"image_size": {"cpus": 4}, "caption_clean": {"gpus": 1}}  # never one task of both
    looked(tmp_path, Nodes(HERE, THERE), output=str(tmp_path / "shared"), stages=stages, placement=apart)


def test_a_worker_checks_a_list_before_it_uses_it(tmp_path, monkeypatch):
    """The list changes behind the preflight: nothing is measured under the name of the first one."""
    paths = small_crawl.write(tmp_path / "in", small_crawl.records(12))
    plain = small_crawl.recipe(paths, tmp_path / "out", tmp_path / "entries.json")

    def changing(*args, **named):
        (tmp_path / "entries.json").write_text('["other"]')

    monkeypatch.setattr(driver, "preflight", changing)
    with pytest.raises(DataError, match="curate.stages.6.entries: node .*entries.json has the digest .*; the digest "):
        curate(CurateSettings.model_validate(plain), name="t", seed=0, quiet=True)
    assert len(list((tmp_path / "out").glob("_pool/columns/*"))) == 1  # what image_decode measured


CLUSTER = """
import os, sys
from ray.cluster_utils import Cluster
from curation.runner.driver import curate
from curation.settings import CurateSettings
import json, ray
home, away = sys.argv[1:3]
os.chdir(home)
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
os.chdir(away)
cluster.add_node(num_cpus=1)
os.chdir(home)
for line in open("settings.jsonl"):
    plain = json.loads(line)
    plain["ray"] = {"address": cluster.address}
    try:
        print("made", curate(CurateSettings.model_validate(plain), name="t", seed=0, quiet=True).num_pairs, flush=True)
    except Exception as error:
        print("refused", str(error).replace(chr(10), " "), flush=True)
cluster.shutdown()
"""


@pytest.mark.exhaustive
def test_two_real_nodes_of_which_one_sees_another_folder(tmp_path):
    home, away = tmp_path / "home", tmp_path / "away"
    paths = small_crawl.write(tmp_path / "in", small_crawl.records(6))
    stages = [{"kind": "image_decode"}]
    good = small_crawl.recipe(paths, tmp_path / "out", tmp_path / "e.json", stages=stages, buckets=1)
    large = {"placement": {"image_decode": {"cpus": 7}}}
    runs = [{**good, "output": "out"}, {**good, **large}, good]
    (home / "settings.jsonl").write_text("".join(json.dumps(plain) + "\n" for plain in runs))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", CLUSTER, home, away], env=environment, capture_output=True, text=True, timeout=280
    )
    said = [line for line in done.stdout.splitlines() if line.startswith(("made", "refused"))]
    assert len(said) == 3, (done.stdout, done.stderr)
    assert said[0].startswith("refused curate.output: node ") and f"curate.output={home / 'out'}" in said[0]
    assert said[1].startswith("refused curate.placement.image_decode: a task asks for 7 CPUs and 0 GPUs; the largest")
    assert said[2].startswith("made ") and not list(tmp_path.rglob(".tmp-*"))
    assert names(away) == []
