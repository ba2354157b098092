"""Does curation grow in a straight line? Made-up crawls of several sizes through every sort of stage that looks around.

    python benchmarks/growth.py --pairs 1e6 4e6 16e6 --folder /tmp/growth      # 16, 64 and 256 parts of 62,500 pairs

Each crawl goes through url duplicates (in the join), text duplicates, exact and perceptual duplicates, concept match, a
top fraction, balance by t and balance by size, and the books. No picture is decoded: what image_decode would measure
is made up from the uid, so that what is timed is the data movement and the deciding. Printed for each size: seconds of
each step, and the largest resident memory of the driver and of any worker, in each step and in all. Peer: the same
pipeline at the smallest size; a ratio of 1.00 is a straight line.
"""

import argparse
import json
import multiprocessing
import shutil
import struct
import threading
import time
import zlib
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table
from steps import Steps

from curation.images.phash import SIDE
from curation.runner import costs, driver
from curation.settings import CurateSettings
from curation.sources.source import Part, Source
from curation.stage import Context, Function, Measure
from curation.stages.image_decode import ImageDecode
from pipeline.draws import hashed_u64, mixed

PART_PAIRS = 62_500
_PICTURES = 500  # distinct images in a part
_WORDS = 30_000
_SIDES = (pa.field("width", pa.int32()), pa.field("height", pa.int32()))


class MadeUp(Source):
    """Parts that are written where they would be read."""

    kind: Literal["made_up"] = "made_up"
    paths: tuple[str, ...] = ()
    suffixes: ClassVar[tuple[str, ...]] = (".made-up",)

    def ingest(self, part: Part, sink: Any) -> dict[str, int]:
        number = int(Path(part.path).stem)
        rng = np.random.default_rng(number)
        for picture in range(_PICTURES):
            sink.image(url=f"http://made.up/{number}/{picture}", body=png(number * _PICTURES + picture))
        urls = rng.integers(0, PART_PAIRS * 20, PART_PAIRS)  # of all parts: one in twenty is mentioned twice
        words = np.minimum(rng.zipf(1.3, (PART_PAIRS, 6)), _WORDS)
        for at in range(PART_PAIRS):
            text = " ".join(f"w{word}" for word in words[at])
            url = f"http://made.up/{number}/{urls[at]}"
            sink.image(url=url, body=png(number * _PICTURES + at % _PICTURES))
            sink.occurrence(url=url, text=text, source="alt", page_url=f"http://site{at % 997}.test/")
        return {"records": PART_PAIRS}


class Looks(Measure):
    """What image_decode would say, from the uid: one pair in ten has a twin, one in ten a near one."""

    kind: Literal["looks"] = "looks"
    unit: ClassVar = "pair"
    store: ClassVar = "inline"
    reads: ClassVar[tuple[str, ...]] = ("uid",)
    adds: ClassVar[tuple[pa.Field, ...]] = (
        *_SIDES,
        pa.field("pixels", pa.string()),
        pa.field("grey", pa.binary(SIDE**2)),
        pa.field("contrast", pa.float32()),
        pa.field("tiny_rgb", pa.binary(192)),
        pa.field("quality", pa.float64()),
    )

    def open(self, ctx: Context) -> Function:
        families = max(ctx.rows // 10, 1)
        return lambda units: _looks(units, families)


def _looks(units: pa.Table, families: int) -> pa.Table:
    number = hashed_u64(units.column("uid").to_pylist())
    sort, family = number % np.uint64(10), mixed(number >> np.uint64(8)) % np.uint64(families)
    own = mixed(number)
    pixels = np.where(sort == 0, family, own)
    num = len(number)
    tiny, grey = np.full((num, 192), 100, np.uint8), _squares(np.where(sort == 1, family, own))
    grey[:, 0] = own % np.uint64(256)
    return pa.table(
        {
            "width": pa.array((own % np.uint64(900)).astype(np.int32) + 64),
            "height": pa.array(np.full(num, 200, np.int32)),
            "pixels": [f"{each:016x}" for each in pixels.tolist()],
            "grey": pa.array([row.tobytes() for row in grey], pa.binary(SIDE**2)),
            "contrast": pa.array(np.full(num, 50, np.float32)),
            "tiny_rgb": pa.array([row.tobytes() for row in tiny], pa.binary(192)),
            "quality": pa.array(own.astype(np.float64)),
        }
    )


def _squares(numbers: np.ndarray) -> np.ndarray:
    """uint8 [number, pixel]: 4 x 4 patches, of levels that each number has for itself."""
    patches = np.stack([mixed(numbers + np.uint64(at)) % np.uint64(256) for at in range(16)], axis=1)
    side = SIDE // 4
    return patches.astype(np.uint8).reshape(-1, 4, 4).repeat(side, 1).repeat(side, 2).reshape(-1, SIDE**2)


def png(number: int) -> bytes:
    """2 x 2 pixels; every number another one."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = struct.pack(">Q", number)
    rows = b"\0" + pixels[:6] + b"\0" + pixels[2:8]
    header = struct.pack(">IIBBBBB", 2, 2, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


def settings_of(folder: Path, pairs: int, address: str) -> CurateSettings:
    parts = max(1, pairs // PART_PAIRS)
    inputs = folder / "in"
    inputs.mkdir(parents=True)
    for number in range(parts):
        (inputs / f"{number}.made-up").write_text(f"{number} of {parts}")
    (folder / "entries.json").write_text(json.dumps([f"w{word}" for word in range(1, _WORDS + 1)]))
    stages: list[dict[str, Any]] = [
        {"kind": "caption_frequency", "max_pairs": 10},
        {"kind": "exact_duplicates", "by": ["bytes"]},  # in place of which the made-up pixels come below
        {"kind": "perceptual_duplicates"},
        {"kind": "concept_match", "entries": str(folder / "entries.json")},
        {"kind": "top_fraction", "column": "quality", "fraction": 0.9},
        {"kind": "balance", "t": max(20, pairs // 2000)},
        {"kind": "balance", "target_pairs": max(1, pairs // 50)},
    ]
    plain = {
        "sources": [{"kind": "warc", "paths": [str(inputs)]}],
        "stages": stages[:1],
        "output": str(folder / "out"),
        "ray": {"address": address},
        "keep": 0,
    }
    known = driver.STAGES
    made = [known[each["kind"]](**each) for each in stages if each["kind"] in known]
    made[1] = known["exact_duplicates"](by=("pixels",))
    settings = CurateSettings.model_validate(plain)
    return settings.model_copy(update={"sources": [MadeUp(paths=(str(inputs),))], "stages": [Looks(), *made]})


class Watch:
    """The largest resident memory of this process and of Ray's workers, looked at ten times a second."""

    def __init__(self) -> None:
        self.step = "start"
        self.driver: dict[str, int] = {}
        self.worker: dict[str, int] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def begins(self, step: str) -> None:
        self.step = step

    def _look(self) -> None:
        while not self._end.wait(0.1):
            step = self.step
            self.driver[step] = max(self.driver.get(step, 0), _resident("self"))
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    name = (process / "cmdline").read_bytes()
                except OSError:
                    continue
                if name.startswith(b"ray::"):
                    self.worker[step] = max(self.worker.get(step, 0), _resident(process.name))


def _resident(process: str) -> int:
    """Bytes that are the process's own: pages of files are shared."""
    try:
        lines = Path("/proc", process, "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon")), 0)


def measure(folder: Path, pairs: int, address: str) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)
    settings = settings_of(folder, pairs, address)
    start, cpu = time.monotonic(), time.process_time()
    with Watch() as watch, Steps(time.monotonic, watch.begins) as steps:
        manifest = driver.curate(settings, name="growth", seed=1, recipe_digest="growth", quiet=True)
    whole = time.monotonic() - start
    shutil.rmtree(folder)
    return {
        "pairs": pairs,
        "kept": manifest.num_pairs,
        "seconds": whole,
        "cpu": time.process_time() - cpu,
        "steps": steps.spent,
        "driver": watch.driver,
        "worker": watch.worker,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", type=float, default=[1e6, 4e6, 16e6])
    parser.add_argument("--folder", type=Path, default=Path("growth"))
    parser.add_argument("--plan", action="store_true", help="only what the formulae say of 1e8 to 1e10 pairs")
    parser.add_argument("--address", default="local", help="as curate.ray.address")
    args = parser.parse_args()
    if args.plan:
        show_plans(args.folder)
        return
    context = multiprocessing.get_context("spawn")  # each in a process of its own: nothing of the last one is counted
    runs = []
    for pairs in args.pairs:
        with context.Pool(1) as alone:
            runs.append(alone.apply(measure, (args.folder, int(pairs), args.address)))
        show(runs)


def show_plans(folder: Path) -> None:
    """A line for each size, in Markdown. Hours: of nodes of 64 cores, reads at 5,000 a second each."""
    stages = [ImageDecode(), *settings_of(folder, PART_PAIRS, "inline").stages[1:]]
    shutil.rmtree(folder)
    print(
        "| pairs | parts | buckets | tasks | files | reads | bytes written | memory of a task | hours on 1, 10, 100 |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for pairs in (10**8, 10**9, 10**10):
        found = costs.plan(stages, pairs, pairs // PART_PAIRS)
        cost = found.cost
        reads = 2 * cost.packs + cost.tables + cost.images
        hours = [max(found.core_s / 64 / nodes, reads / 5000 / nodes) / 3600 for nodes in (1, 10, 100)]
        print(
            f"| {pairs:.0e} | {found.parts:,} | {found.buckets:,} | {cost.tasks:.1e} | {cost.files:.1e} | {reads:.1e} "
            f"| {found.bytes / 1e12:.2g} TB | {found.memory >> 20} MiB | {', '.join(f'{each:.2g}' for each in hours)} |"
        )


def show(runs: list[dict[str, Any]]) -> None:
    table = Table("step", *(f"{run['pairs']:,} pairs" for run in runs), "seconds a pair, last / first")
    growth = runs[-1]["pairs"] / runs[0]["pairs"]
    for step in runs[-1]["steps"]:
        seconds = [run["steps"].get(step, 0.0) for run in runs]
        memory = [max(run[who].get(step, 0) for who in ("driver", "worker")) >> 20 for run in runs]
        cells = [f"{each:.1f} s, {most} MiB" for each, most in zip(seconds, memory, strict=True)]
        table.add_row(step, *cells, f"{seconds[-1] / max(seconds[0], 1e-9) / growth:.2f}")
    whole = [run["seconds"] for run in runs]
    table.add_row("in all", *(f"{each:.0f} s" for each in whole), f"{whole[-1] / whole[0] / growth:.2f}")
    busy = [run["cpu"] for run in runs]
    cells = [f"{each:.0f} s" for each in busy]
    table.add_row("processor time of the driver", *cells, f"{busy[-1] / busy[0] / growth:.2f}")
    for who in ("driver", "worker"):
        memory = [max(run[who].values(), default=0) >> 20 for run in runs]
        table.add_row(f"memory, {who}", *(f"{each} MiB" for each in memory), f"{memory[-1] / max(memory[0], 1):.2f}")
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
