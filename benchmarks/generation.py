"""How many requests a second does one core keep a chat server busy with? Against a server that answers in 200 ms.

    python benchmarks/generation.py --requests 20000 --in-flight 256 512

The server is a process of its own on loopback, and so has the other core. Every request carries a small picture, is
written down before it is sent, and its answer is durable (fsync) before it counts. Printed: requests a second of wall
clock and of processor time of ours, the most that the server saw at a time, and the bound: in flight / 0.2 s.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path

import pyarrow as pa

sys.path.append(str(Path(__file__).resolve().parents[1]))

from curation.generation.limits import ENDLESS
from curation.methods.units import KEY, kept_schema
from curation.pool.columns import Columns
from curation.runner.closing import generating
from curation.runner.closing.served import share
from curation.stage import IMAGE, Context
from curation.stages.generate import GenerateText
from tests.helpers import chat_server
from tests.helpers.warcs import png

_DELAY_S = 0.2


def measure(folder: Path, requests: int, in_flight: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with chat_server.running(folder / "server", delay=_DELAY_S) as server:
        backend = {"kind": "openai", "url": server.url, "model": "m"}
        stage = GenerateText(
            name="x", prompt="builtin:caption", backend=backend, limits={"in_flight": in_flight, "timeout_s": 60}
        )
        columns = Columns(str(folder), stage.kept_digest(), kept_schema(stage), 16)
        keys = [f"{number:032x}" for number in range(requests)]
        todo = pa.table({KEY: keys, IMAGE: pa.array([png(number) for number in range(requests)], pa.large_binary())})
        feeding_real = share.inputs_of
        share.inputs_of = lambda stage, rows, reader: rows.drop_columns([KEY])
        try:
            wall, cpu = time.monotonic(), time.process_time()
            told = generating.ask(stage, Context(), todo, columns, None, share.Part(ENDLESS))  # type: ignore[arg-type]
            wall, cpu = time.monotonic() - wall, time.process_time() - cpu
        finally:
            share.inputs_of = feeding_real
        assert told["left"] == 0 and len(server.answered()) == requests
        print(
            f"{in_flight:6} in flight (server saw {server.most_at_a_time()}): {requests / wall:8,.0f} requests/s, "
            f"{requests / cpu:8,.0f} a second of our processor; bound {in_flight / _DELAY_S:,.0f}"
        )
    shutil.rmtree(folder)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--requests", type=int, default=20_000)
    asked.add_argument("--in-flight", type=int, nargs="+", default=[256, 512])
    asked.add_argument("--folder", type=Path, default=Path("generation"))
    given = asked.parse_args()
    for in_flight in given.in_flight:
        measure(given.folder, given.requests, in_flight)


if __name__ == "__main__":
    main()
