"""The training reader: this rank's rows of every step, the same for any world size and any number of workers."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from pipeline.settings import Settings
from training.batch import Batch
from training.reader.captions import CaptionPolicy
from training.reader.fetch import Pairs
from training.reader.images import ImageSettings
from training.reader.order import Order
from training.reader.state import ReaderState

Tokenize = Callable[[list[str]], torch.Tensor]


class ReaderSettings(Settings):
    """None of these but `lanes` and `window` changes what a step sees."""

    lanes: Annotated[int, Field(gt=0)] | None = None  # default: the largest divisor of the global batch up to 1,024
    window: Annotated[int, Field(gt=0)] = 4096  # pairs mixed with each other within a lane
    workers: Annotated[int, Field(ge=0)] = 2  # processes that read ahead; 0 reads in the training process
    prefetch: Annotated[int, Field(gt=0)] = 2  # pieces each worker keeps ready
    piece: Annotated[int, Field(gt=0)] = 512  # rows a worker handles at a time
    threads: Annotated[int, Field(gt=0)] = 1  # decoding threads of each worker
    max_bad_fraction: Annotated[float, Field(ge=0, le=1)] = 0.01  # undecodable images tolerated


class Reader:
    """Batches of one rank. Same (pairs, seed, global batch, lanes, window): same global batch at every step."""

    order: Order

    def __init__(
        self, pairs: Pairs, settings: ReaderSettings, *, seed: int, global_batch: int, image: ImageSettings, image_size: int,
        captions: CaptionPolicy, tokenize: Tokenize, rank: int = 0, world: int = 1, quarantine: Path | None = None,
    ) -> None:
        """`quarantine`: a JSON-lines file that lists undecodable pairs (one file for each rank)."""
        raise NotImplementedError

    def state(self, step: int) -> ReaderState:
        """What to keep in a checkpoint taken when `step` steps are done (the next step to read is `step`)."""
        raise NotImplementedError

    def batches(self, start: int, stop: int) -> Iterator[tuple[int, Batch]]:
        """(step, this rank's rows) for start <= step < stop. DataError for damage or too many bad images."""
        raise NotImplementedError
