"""The `reader` section of `train`."""

from typing import Annotated

from pydantic import Field

from pipeline.settings import Settings


class ReaderSettings(Settings):
    """`lanes` and `window` are part of the order; the rest never changes what a step sees.

    `lanes`: streams that a step takes equal parts of; default: the largest divisor of the global batch up to 1,024.
    `window`: neighbouring pairs of a lane that are mixed with each other. `workers`: reading processes of each rank; 0
    reads in the training process. `prefetch`: steps kept ready. `piece`: most rows that a worker handles at a time.
    `threads`: of each worker, for reading and decoding; raise it for remote shards. `max_bad_fraction`: undecodable
    images tolerated before the run stops.
    """

    lanes: Annotated[int, Field(gt=0)] | None = None
    window: Annotated[int, Field(gt=0, le=1 << 40)] = 4096
    workers: Annotated[int, Field(ge=0, le=1024)] = 2
    prefetch: Annotated[int, Field(gt=0, le=1024)] = 2
    piece: Annotated[int, Field(gt=0, le=1 << 31)] = 512
    threads: Annotated[int, Field(gt=0, le=1024)] = 2
    max_bad_fraction: Annotated[float, Field(ge=0, le=1)] = 0.01
