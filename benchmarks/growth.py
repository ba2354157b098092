"""Does curation grow in a straight line? Made-up crawls of several sizes through every stage and every source.

    python benchmarks/growth.py --stages core --pairs 1e6 4e6 16e6 --folder /tmp/growth
    python benchmarks/growth.py --plan                    # what the formulae say of 1e8 to 1e10 pairs

A part has 62,500 pairs; `made_up/sets.py` says which set of stages has what. No model runs, and but for the set
`inputs` no picture is decoded: what they would say is made up, so that what is timed is the data movement and the
deciding. Printed for each size: seconds of each step (of one process, `--address inline`, those of the processor), and
the largest resident memory of the driver and of any worker, in each step and in all; and of one process tasks, files
and reads as counted, beside what the formulae of curation/runner/costs/ say. Peer: the same pipeline at the smallest
size; a ratio of 1.00 is a straight line.
"""

import argparse
import multiprocessing
import shutil
import time
from pathlib import Path
from typing import Any

from counts import CLOSING, ENDING, Counts
from made_up.inputs import PART_PAIRS
from made_up.sets import SETS, settings_of
from rich.console import Console
from rich.table import Table
from steps import Steps
from watch import Watch

from curation.runner import driver
from curation.runner.costs.cost import Cost
from curation.runner.costs.plan import plan
from curation.stage import Stage
from curation.stages.image_decode import ImageDecode


def measure(folder: Path, name: str, pairs: int, address: str, is_resumed: bool) -> dict[str, Any]:
    if not is_resumed:
        shutil.rmtree(folder, ignore_errors=True)
    settings = settings_of(name, folder, pairs, address)
    start, cpu = time.monotonic(), time.process_time()
    is_alone = address == "inline"  # then what other processes do need not be in the seconds of a step
    clock = time.process_time if is_alone else time.monotonic

    def ends(step: str, spent: float) -> None:  # what a run that is stopped leaves
        memory = max(watch.driver.get(step, 0), watch.worker.get(step, 0)) >> 20
        free = shutil.disk_usage(folder).free >> 20
        print(f"{pairs:,} pairs | {step} | {spent:.1f} s | {memory} MiB | disk free {free} MiB", flush=True)

    counts = Counts(keeps=False)
    with Watch(workers=not is_alone) as watch, Steps(clock, watch.begins, ends) as steps, counts:
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
        "counted": counts.cost(CLOSING),
        "expected": counts.expected,
        "ending": counts.cost(ENDING),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", choices=sorted(SETS), default="core", help="the set of stages (made_up/sets.py)")
    parser.add_argument("--pairs", nargs="+", type=float, default=[1e6, 4e6, 16e6])
    parser.add_argument("--folder", type=Path, default=Path("growth"))
    parser.add_argument("--plan", action="store_true", help="only what the formulae say of 1e8 to 1e10 pairs")
    parser.add_argument("--address", default="local", help="as curate.ray.address")
    parser.add_argument("--resume", action="store_true", help="go on with what a killed run left in the folder")
    args = parser.parse_args()
    if args.plan:
        show_plans(args.folder)
        return
    context = multiprocessing.get_context("spawn")  # each in a process of its own: nothing of the last one is counted
    runs = []
    for pairs in args.pairs:
        with context.Pool(1) as alone:
            runs.append(alone.apply(measure, (args.folder, args.stages, int(pairs), args.address, args.resume)))
        show(runs)


def show_plans(folder: Path) -> None:
    """A line for each set and size, in Markdown. Hours: of nodes of 64 cores, reads at 5,000 a second each."""
    print(
        "| stages | pairs | parts | buckets | tasks | files | reads | bytes written | memory of a task "
        "| hours on 1, 10, 100 |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in SETS:
        made_up = settings_of(name, folder / name, PART_PAIRS).stages
        shutil.rmtree(folder)
        stages: list[Stage] = [ImageDecode() if stage.kind == "looks" else stage for stage in made_up]
        for pairs in (10**8, 10**9, 10**10):
            found = plan(stages, pairs, pairs // PART_PAIRS)
            hours = [found.hours(nodes, 64) for nodes in (1, 10, 100)]
            print(
                f"| {name} | {pairs:.0e} | {found.parts:,} | {found.buckets:,} | {found.cost.tasks:.1e} "
                f"| {found.cost.files:.1e} | {found.cost.reads:.1e} | {found.bytes / 1e12:.2g} TB "
                f"| {found.memory >> 20} MiB | {', '.join(f'{each:.2g}' for each in hours)} |"
            )


def show(runs: list[dict[str, Any]]) -> None:
    table = Table("step", *(f"{run['pairs']:,} pairs" for run in runs), "a pair, last / first")
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
    if runs[-1]["counted"].tasks:
        for what in Cost._fields:
            counted = [getattr(run["counted"], what) for run in runs]
            said = [getattr(run["expected"], what) for run in runs]
            cells = [f"{mine:,} of {theirs:,}" for mine, theirs in zip(counted, said, strict=True)]
            table.add_row(f"{what}, of the formulae", *cells, f"{counted[-1] / max(counted[0], 1) / growth:.2f}")
            at_last = [getattr(run["ending"], what) for run in runs]
            cells = [f"{each:,}" for each in at_last]
            table.add_row(f"{what}, shards and books", *cells, f"{at_last[-1] / max(at_last[0], 1) / growth:.2f}")
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
