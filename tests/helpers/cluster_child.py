"""Curates on a cluster of several Ray nodes on this machine, of which some are killed or join in the middle.

python -m tests.helpers.cluster_child settings.json NODES [kill|add ...]
Prints each change when it is made, then what curate_child prints; a change that finds nothing to disturb is "late".
The first is made when a part has been read, the second when two buckets have.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ["RAY_AUTH_MODE"] = "disabled"  # for this cluster and for who joins it, whatever ~/.ray holds

from ray.cluster_utils import Cluster  # noqa: E402 - Ray reads it when it is imported

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}
MARKS = ("_pool/parts/*/part.json", "_work/0-*/bucket-*.json")


def main(path: Path, nodes: int, changes: list[str]) -> int:
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    for _ in range(nodes - 1):
        cluster.add_node(**NODE)
    plain = json.loads(path.read_text())
    path.write_text(json.dumps({**plain, "ray": {"address": cluster.address}}))
    child = subprocess.Popen([sys.executable, "-m", "tests.helpers.curate_child", str(path)], stdout=subprocess.PIPE)
    for change, mark in zip(changes, MARKS, strict=False):
        while not list(Path(plain["output"]).glob(mark)) and child.poll() is None:
            time.sleep(0.02)
        if child.poll() is not None:
            print("late", change, flush=True)
            continue
        if change == "add":
            cluster.add_node(**NODE)
        else:
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        print("did", change, flush=True)
    said, _ = child.communicate()
    print("said", said.decode().strip().replace("\n", " "), flush=True)
    cluster.shutdown()
    return child.returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
