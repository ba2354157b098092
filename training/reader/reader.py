"""The training reader: this rank's rows of every step, the same for any world size and any number of workers.

A step's rows are cut into pieces by lanes; a piece is read and decoded by one worker process. What a piece holds is a
function of its number, so workers need no state and nothing is lost or repeated when they are killed.
"""

import json
import signal
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from pipeline.errors import ClipmillError, DataError
from pipeline.log import get_logger
from training.reader.batch import BadPair, Batch, concatenated
from training.reader.captions.policy import CaptionPolicy
from training.reader.columns import Columns, Tokenize
from training.reader.images import ImageSettings
from training.reader.order import Order
from training.reader.pairs import Map, Pairs
from training.reader.settings import ReaderSettings
from training.reader.state import ReaderState
from training.reader.stored.asked import StoredSet
from training.reader.stored.replay import Replay
from training.wanted import Wanted

_SMALLEST_PIECE = 32  # rows; below it the hand-over between processes costs more than it shares out
_GRACE = 1000  # rows at the start over which the budget of bad images is spread
_MEMORY_HINT = "lower train.reader.prefetch or train.reader.piece; in a container, give /dev/shm more room"


class Reader:
    """Batches of one rank. Same (pairs, seed, global batch, lanes, window): same global batch at every step."""

    def __init__(
        self, pairs: Pairs, settings: ReaderSettings, *, seed: int, global_batch: int, image: ImageSettings,
        image_size: int, captions: CaptionPolicy, tokenize: Tokenize, rank: int = 0, world: int = 1,
        quarantine: Path | None = None, steps: int = 0, wanted: Wanted | None = None, lanes: int | None = None,
        origin: tuple[int, int] = (0, 0), stored: StoredSet | None = None,
    ) -> None:  # fmt: skip
        """`quarantine`: a JSON-lines file that lists undecodable pairs (one file for each rank). `steps`: of the whole
        run, for policies that change over it. `wanted`: what terms want beside. `lanes`: default are those of the
        settings. `origin`: see `Order`. `stored`: views and vectors to replay.

        DataError with fewer pairs than one batch; RecipeError when the lanes fit neither the batch nor the ranks.
        """
        self.pairs, self.settings, self.quarantine = pairs, settings, quarantine
        self.order = Order(
            pairs.shard_pairs,
            seed=seed,
            global_batch=global_batch,
            lanes=lanes or settings.lanes,
            window=settings.window,
            origin=origin,
        )
        ours = self.order.lanes_of(rank, world)
        cuts = _pieces(len(ours), self.order.rows_of(rank, world), settings)
        pieces = [ours[a:b] for a, b in zip(cuts[:-1], cuts[1:], strict=True)]
        # Pieces go round the workers in turn, so a worker sees the same share of the lanes in every step.
        busy = min(settings.workers, len(pieces)) or 1
        pairs.keep_open(sum(map(len, pieces[::busy])), settings.window)
        self.replay = Replay(pairs, stored, image, seed) if stored else None
        if self.replay:
            self.replay.keep_open(sum(map(len, pieces[::busy])), settings.window)
        columns = Columns(image, image_size, captions, tokenize, self.order.seed, steps, wanted or Wanted())
        self._work = _Pieces(pairs, self.order, pieces, columns, settings.threads, self.replay)
        self._seen = self._bad = 0
        self._listed: set[str] = set()

    def state(self, step: int) -> ReaderState:
        """What to keep in a checkpoint taken when `step` steps are done (the next step to read is `step`)."""
        order = self.order
        return ReaderState(
            data=self.pairs.digest, pairs=order.num_pairs, seed=order.seed, global_batch=order.global_batch,
            lanes=order.lanes, window=order.window, step=step, drawn=order.drawn_before(step),
            stored=self.replay.digest if self.replay else None,
        )  # fmt: skip

    def batches(self, start: int, stop: int) -> Iterator[tuple[int, Batch]]:
        """(step, this rank's rows) for start <= step < stop.

        Raises DataError for damaged shards and for too many bad images, StorageError when shards cannot be reached.
        """
        count = len(self._work.pieces)
        found = self._pieces_from(range(start * count, stop * count))
        try:
            for step in range(start, stop):
                batch = concatenated([next(found) for _ in range(count)])
                self._account(batch)
                yield step, batch
        finally:
            found.close()

    def _pieces_from(self, numbers: range) -> Generator[Batch, None, None]:
        workers = min(self.settings.workers, len(numbers))
        if workers == 0:
            for number in numbers:
                yield _raised(self._work[number])
            return
        # fsspec's event loop does not survive a fork; local files do, and forked workers start at once.
        loader = DataLoader(
            self._work, batch_size=None, sampler=numbers, num_workers=workers, collate_fn=_as_is,
            worker_init_fn=_deaf, generator=torch.Generator(),  # else it draws from, and so moves, the global one
            prefetch_factor=-(-self.settings.prefetch * len(self._work.pieces) // workers),
            multiprocessing_context="spawn" if self.pairs.remote else "fork", pin_memory=torch.cuda.is_available(),
        )  # fmt: skip
        iterator = iter(loader)
        try:
            for _ in numbers:
                try:
                    piece = next(iterator)
                except RuntimeError as error:
                    if "DataLoader worker" not in str(error):
                        raise
                    found = f"a reading process died: {' '.join(str(error).split())}"
                    raise ClipmillError("train.reader", found, "", _MEMORY_HINT) from None
                yield _raised(piece)
        finally:
            del iterator

    def _account(self, batch: Batch) -> None:
        """Counts masked rows against the budget and lists each bad pair once."""
        self._seen += batch.size
        self._bad += len(batch.bad)
        new = [bad for bad in batch.bad if bad.uid not in self._listed]
        self._listed.update(bad.uid for bad in new)
        if new and self.quarantine is not None:
            self.quarantine.parent.mkdir(parents=True, exist_ok=True)
            with self.quarantine.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps({"step": batch.step, **asdict(bad)}) + "\n" for bad in new)
        for bad in new[:3]:
            _log.warning("%s %s (uid %s): image is %s; its row is masked", bad.shard, bad.key, bad.uid, bad.reason)
        budget = self.settings.max_bad_fraction
        if self._bad > budget * max(self._seen, _GRACE):
            bad = batch.bad[-1]
            last = f"the last: {bad.key}, uid {bad.uid}, {bad.reason}"
            found = f"{self._bad} of {self._seen} images cannot be decoded ({last})"
            listed = f"they are listed in {self.quarantine}; " if self.quarantine else ""
            hint = f"{listed}curate with an `image_decode` stage, or raise train.reader.max_bad_fraction"
            raise DataError(bad.shard, found, f"at most a fraction of {budget} is tolerated", hint)


_log = get_logger("reader")


@dataclass
class _Failed:
    """An error of ours on its way out of a worker: DataLoader would rebuild it from its text alone, and fail."""

    error: ClipmillError


class _Pieces(Dataset):
    """Item i is piece i % P of step i // P, as a Batch; a pure function of i, whichever process asks."""

    def __init__(
        self, pairs: Pairs, order: Order, pieces: list[range], columns: Columns, threads: int, replay: Replay | None
    ) -> None:
        self.pairs, self.order, self.pieces, self.columns, self.threads = pairs, order, pieces, columns, threads
        self.replay = replay

    def __len__(self) -> int:
        return 1 << 62

    def __getitem__(self, number: int) -> Batch | _Failed:
        step, piece = divmod(number, len(self.pieces))
        try:
            if self.threads == 1:
                return self._read(step, self.pieces[piece], map)
            with ThreadPoolExecutor(self.threads) as pool:
                return self._read(step, self.pieces[piece], pool.map)
        except ClipmillError as error:
            return _Failed(error)

    def _read(self, step: int, lanes: range, each: Map) -> Batch:
        started = time.perf_counter()
        drawn = self.order.draw(step, lanes)
        epochs = drawn.epoch.tolist()
        raw = self.pairs.read(drawn.shard, drawn.row, each)
        uids = [pair.uid for pair in raw]
        kept = self.replay.read(drawn.shard, drawn.row, uids, epochs, each) if self.replay else None
        rows, captions, reasons = self.columns.of(step, raw, epochs, each, kept)
        return Batch(
            step=step, rows=rows, uids=uids, captions=captions, epochs=epochs,
            seed=self.order.seed,
            bad=[
                BadPair(pair.uid, self.pairs.shard_url(int(shard)), pair.key, reason)
                for pair, shard, reason in zip(raw, drawn.shard, reasons, strict=True) if reason
            ],
            read_s=time.perf_counter() - started,
        )  # fmt: skip


def _pieces(lanes: int, rows: int, settings: ReaderSettings) -> list[int]:
    """Where to cut a rank's lanes: a multiple of the workers, so that a worker stays with its lanes' shards."""
    workers = max(settings.workers, 1)
    count = workers * -(-rows // (workers * settings.piece))
    if rows < count * _SMALLEST_PIECE:
        count = 1
    count = min(count, lanes)
    return [n * lanes // count for n in range(count + 1)]


def _raised(piece: Batch | _Failed) -> Batch:
    if isinstance(piece, _Failed):
        raise piece.error
    return piece


def _deaf(worker: int) -> None:
    """A scheduler signals every process of a job; only the training process answers, and then ends its workers."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def _as_is(item: Any) -> Any:
    return item
