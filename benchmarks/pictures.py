"""How many pictures a second, a core? clipmill's measures and re-encoding, and img2dataset's Resizer, alternating.

    python benchmarks/pictures.py                          # made-up photographs of four sizes
    python benchmarks/pictures.py --pictures FOLDER        # the JPEG files of a folder

passed through    `image_decode`: decoded, pixel hash, perceptual hash, colours; the bytes are kept as they are
resized           the same, then at most --side pixels on the longer side by area means, as JPEG of quality 92
shrunk            decoded once: made such a JPEG as it enters the pool (`curate.shrink`), and that measured
Resizer           img2dataset: decoded, resized to the same size by area means, JPEG of quality 92; nothing is hashed

Medians over the rounds, of processor time. OpenCV and clipmill get one thread each.
"""

import argparse
import io
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from rich.console import Console
from rich.table import Table

from curation.emit.convert import convert
from curation.images.shrink import ShrinkSettings, shrunk
from curation.settings import EmitSettings, ResizeSettings
from curation.stage import Context
from curation.stages.image_decode import ImageDecode

_QUALITY = 92
_BATCH = 32


def photographs(size: tuple[int, int], count: int) -> list[bytes]:
    """Smooth shapes with fine grain: about the bytes of a real photograph at JPEG quality 85."""
    made = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        coarse = Image.fromarray(rng.integers(0, 256, (size[1] // 32, size[0] // 32, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)).astype(np.int16)
        grain = rng.normal(0, 5, (size[1], size[0], 1))
        out = io.BytesIO()
        Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=85)
        made.append(out.getvalue())
    return made


def ours(bodies: Sequence[bytes], side: int | None) -> None:
    measure = ImageDecode().open(Context())
    for at in range(0, len(bodies), _BATCH):
        some = bodies[at : at + _BATCH]
        measure(pa.table({"image": pa.array(some, pa.large_binary()), "image_stored": [""] * len(some)}))
    if side is not None:
        settings = EmitSettings(resize=ResizeSettings(max_side=side, quality=_QUALITY, filter="box"))
        for body in bodies:
            convert(body, settings)


def shrunk_first(bodies: Sequence[bytes], side: int) -> None:
    settings = ShrinkSettings(max_side=side, quality=_QUALITY, filter="box")
    made = [shrunk(body, settings) for body in bodies]
    ours([small.body if small else body for small, body in zip(made, bodies, strict=True)], None)


def peer(bodies: Sequence[bytes], side: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from img2dataset.resizer import Resizer
    resizer = Resizer(side, "keep_ratio_largest", True, downscale_interpolation="area", encode_quality=_QUALITY)
    for body in bodies:
        _, _, _, _, _, error = resizer(io.BytesIO(body))
        assert error is None, error


def timed(function: Callable[[], None], count: int) -> float:
    """Pictures a second of processor time."""
    start = time.process_time()
    function()
    return count / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, help="a folder of JPEG files in place of made-up ones")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--count", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    if args.pictures:
        sets = {str(args.pictures): [path.read_bytes() for path in sorted(args.pictures.glob("*.jp*g"))[: args.count]]}
    else:
        sets = {
            f"{w} x {h}": photographs((w, h), args.count) for w, h in ((512, 384), (1024, 768), (1000, 750), (640, 480))
        }
    table = Table(
        "pictures", "kB each", "passed through", "resized", "shrunk", "Resizer", "/ Resizer", "shrunk / Resizer"
    )
    for name, bodies in sets.items():
        ways = (
            lambda: ours(bodies, None),  # noqa: B023
            lambda: ours(bodies, args.side),  # noqa: B023
            lambda: shrunk_first(bodies, args.side),  # noqa: B023
            lambda: peer(bodies, args.side),  # noqa: B023
        )
        found: list[list[float]] = [[] for _ in ways]
        for way in ways:  # what is loaded at first use is not timed
            way()
        for _ in range(args.rounds):
            for way, speeds in zip(ways, found, strict=True):
                speeds.append(timed(way, len(bodies)))
        medians = [statistics.median(speeds) for speeds in found]
        ratios = [
            statistics.median(mine / theirs for mine, theirs in zip(found[n], found[3], strict=True)) for n in (1, 2)
        ]
        kilobytes = sum(map(len, bodies)) / len(bodies) / 1000
        table.add_row(
            name, f"{kilobytes:.0f}", *(f"{speed:.0f}/s" for speed in medians), *(f"{ratio:.2f}" for ratio in ratios)
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
