"""A curation on two nodes is one Ray: the head on node 0, the other joins; both end with it and leave nothing."""

import json
import stat
from pathlib import Path

import pytest
import yaml

from pipeline.cluster.node import joining
from pipeline.cluster.rundir import RunDir, create
from pipeline.contract.manifest import Manifest
from pipeline.recipe import load
from tests.helpers import small_crawl
from tests.helpers.nodes import ended, start_node, state


def test_the_token_is_the_users_own_or_only_for_his_eyes(tmp_path, monkeypatch):
    run = RunDir(tmp_path)
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):  # this process may have one from a test before
        monkeypatch.delenv(name, raising=False)
    made = joining._secret(run, make=True)
    assert made == joining._secret(run, make=False) and len(made["RAY_AUTH_TOKEN"]) == 64
    assert stat.S_IMODE((tmp_path / "ray.token").stat().st_mode) == 0o600
    assert joining._secret(run, make=True) != made
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    assert joining._secret(run, make=True) == {}


def left_of(run: RunDir) -> list[str]:
    """Processes whose environment names the run."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if str(run.path).encode() in (path / "environ").read_bytes():
                found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:120])
        except OSError:
            continue
    return found


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_a_curation_on_two_nodes(tmp_path):
    paths = small_crawl.write(tmp_path / "in", small_crawl.records(24), files=4)
    plain = small_crawl.recipe(paths, tmp_path / "out", tmp_path / "e.json", stages=[{"kind": "image_decode"}])
    plain.pop("ray", None)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"curate": json.loads(json.dumps(plain))}))
    run = create(tmp_path / "run", load(str(recipe)))
    where = {"NODES": 2, "ATTEMPT": "one", "MASTER_ADDR": "127.0.0.1"}
    nodes = [start_node(run, "curate", NODE_RANK=rank, **where) for rank in (0, 1)]
    found = [ended(node) for node in nodes]
    assert [code for code, _ in found] == [0, 0], found
    assert state(run)["status"] == "completed" and state(run)["stage"] == "curate" and state(run)["step"] == 1
    assert Manifest.load(plain["output"]).num_pairs > 0
    assert sorted(path.name for path in (run.logs / "0001").glob("*.joined")) == ["0.joined", "1.joined"]
    assert left_of(run) == []
