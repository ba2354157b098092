"""What decoding and models would say, made up: so that what is timed is the data movement and the deciding."""

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from curation.images.phash import SIDE
from curation.methods.vectors.clip_model import as_column
from curation.stage import Context, Function, Measure
from curation.stages.clip_image_vector import ClipImageVector
from curation.stages.clip_text_vector import ClipTextVector
from made_up.pictures import squares
from pipeline.draws import hashed_u64, mixed

WIDTH = 64
"""Values of a vector."""


class Looks(Measure):
    """What image_decode would say, from the uid: one pair in ten has a twin, one in ten a near one."""

    kind: Literal["looks"] = "looks"
    unit: ClassVar = "pair"
    store: ClassVar = "inline"
    reads: ClassVar[tuple[str, ...]] = ("uid",)
    adds: ClassVar[tuple[pa.Field, ...]] = (
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
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
    tiny, grey = np.full((num, 192), 100, np.uint8), squares(np.where(sort == 1, family, own))
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


class _MadeUpVectors:
    """In place of a model: the direction that an input has by its hash. One in ten is beside that of a twin."""

    model: str = "made-up"

    @property
    def adds(self) -> tuple[pa.Field, ...]:
        return tuple(pa.field(name, pa.list_(pa.float16(), WIDTH)) for name in self.added_names)  # type: ignore[attr-defined]

    def file_digests(self) -> dict[str, tuple[str, str]]:
        return {}

    def check(self, where: str, before: object = ()) -> None:
        pass

    def try_out(self, where: str) -> None:
        pass

    def open(self, ctx: Context) -> Function:
        families = max(ctx.rows // 20, 1)
        name = self.added_names[0]  # type: ignore[attr-defined]

        def measure(inputs: pa.Table) -> pa.Table:
            told = inputs.column(0).to_pylist()
            number = hashed_u64([each if isinstance(each, str) else each.hex() for each in told])
            return pa.table({name: as_column(_directions(number, families), WIDTH)})

        return measure


def _directions(number: np.ndarray, families: int) -> np.ndarray:
    """float16 [input, value] of unit length: around one of 64 themes, so that there are clusters."""
    family = np.where(number % np.uint64(10) == 0, number % np.uint64(families), number)
    themes = np.random.default_rng(0).normal(size=(64, WIDTH))
    at = (mixed(family) % np.uint64(64)).astype(np.int64)
    values = np.arange(WIDTH, dtype=np.uint64)
    own = mixed(mixed(family)[:, None] + values) / 2.0**64 + mixed(mixed(family)[:, None] ^ values) / 2.0**64 - 1.0
    shift = mixed(number[:, None] + values) / 2.0**64 - 0.5
    found = themes[at] + 2.0 * own + 0.01 * shift
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float16)


class MadeUpImageVector(_MadeUpVectors, ClipImageVector):
    """Of the bytes of a picture."""


class MadeUpTextVector(_MadeUpVectors, ClipTextVector):
    """Of a text."""
