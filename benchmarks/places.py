"""A whole `clipmill curate`, start and end included, in this process, in processes of this machine and on a local Ray.

    CLIPART=../shared/data python benchmarks/places.py clipart --rounds 5

By turns, each into an empty output. Printed: the median of the seconds from the command to its end, how busy the CPUs
of this machine were in them (others' work among it: see that there is none) and behind the first two seconds, and the
ratio to one process. Peer: one process, which starts nothing.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from pipeline.contract.manifest import Manifest

PLACES = ("inline", "processes", "local")
_START_S = 2.0


def busy() -> tuple[float, float]:
    """(processor time at work, and in all) of this machine since it was started, in ticks."""
    user, nice, system, idle, wait, *others = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
    spent = user + nice + system + sum(others)
    return spent, spent + idle + wait


def measure(recipe: str, place: str, output: Path) -> tuple[float, float, float, str]:
    """Seconds; shares of the CPUs that were busy in them, and behind the start; digest of the dataset."""
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-m", "pipeline.cli", "curate", recipe, f"curate.output={output}"]
    later: list[tuple[float, float]] = []
    timer = threading.Timer(_START_S, lambda: later.append(busy()))
    before, began = busy(), time.monotonic()
    timer.start()
    subprocess.run([*command, f"curate.ray.address={place}"], check=True, stderr=subprocess.DEVNULL)
    seconds, after = time.monotonic() - began, busy()
    timer.cancel()
    shares = [(after[0] - at[0]) / max(after[1] - at[1], 1) for at in (before, *later[:1])]
    return seconds, shares[0], shares[-1], Manifest.load(str(output)).digest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("places"))
    args = parser.parse_args()
    found = {place: [] for place in PLACES}
    digests = set()
    for _ in range(args.rounds):
        for place in PLACES:
            *figures, digest = measure(args.recipe, place, args.output)
            found[place].append(figures)
            digests.add(digest)
    shutil.rmtree(args.output)
    plain = statistics.median(each[0] for each in found["inline"])
    for place, figures in found.items():
        seconds, whole, behind = (statistics.median(column) for column in zip(*figures, strict=True))
        print(f"{place:10} {seconds:6.1f} s   CPUs {whole:.0%} busy, {behind:.0%} behind the start", end="   ")
        print(f"{seconds / plain:.2f} of inline")
    print("the same bytes" if len(digests) == 1 else f"OTHER BYTES: {sorted(digests)}")


if __name__ == "__main__":
    main()
