"""Which pairs only one of two datasets has: how many, what became of them in the other, and some to look at."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np

from pipeline import storage
from pipeline.contract.dataset import Dataset, open_dataset
from pipeline.contract.manifest import MANIFEST
from pipeline.draws import mixed
from pipeline.errors import ClipmillError
from pipeline.images.thumbnail import thumbnail
from pipeline.outputs import SUBSET
from pipeline.report.compared.uids import Fates, Uids, absent, steps
from pipeline.report.schemas import Example

NOT_THERE = "not among its pairs"
UNKNOWN = "not known, it has no verdicts that can be read"
OTHER = "other reasons"
MOST_FATES, SAMPLES = 400, 6  # reasons told apart; pairs shown of each


@dataclass
class Only:
    """number: of pairs that only this dataset has; fates: what the other one did with them; samples: some of each."""

    number: int = 0
    fates: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))  # hash, row
    shown: dict[str, list[Example]] = field(default_factory=dict)

    def add(self, uids: np.ndarray, rows: np.ndarray, fates: Fates) -> None:
        self.number += len(uids)
        halves = uids.view(">u8").astype(np.uint64).reshape(-1, 2)
        order = mixed(halves[:, 1] ^ mixed(halves[:, 0])) if len(uids) else halves[:, 0]
        absent_there = NOT_THERE if fates.are_known else UNKNOWN
        labels = np.array([label or absent_there for label in fates.of(uids)], object)
        for label in sorted(set(labels.tolist())):
            name = label if label in self.fates or len(self.fates) < MOST_FATES else OTHER
            mine = np.flatnonzero(labels == label)
            self.fates[name] += len(mine)
            best = mine[np.argsort(order[mine], kind="stable")[:SAMPLES]]
            both = [*self.samples[name], *zip(order[best].tolist(), rows[best].tolist(), strict=True)]
            self.samples[name] = sorted(both)[:SAMPLES]


@dataclass(frozen=True)
class Shared:
    both: int
    only_a: Only
    only_b: Only


def shared(a: str, b: str) -> Shared | None:
    """Of the datasets in two folders; None where one has no list of its uids. Reads both lists and the verdicts once,
    and some pairs."""
    if not all(storage.exists(storage.join(folder, SUBSET)) for folder in (a, b)):
        return None
    only_a, only_b, both = Only(), Only(), 0
    of_a, of_b = Uids(a), Uids(b)
    in_a, in_b = Fates(a), Fates(b)
    rows_b = 0
    for step in steps(of_a, of_b):
        lost, new = absent(step.mine, step.theirs), absent(step.theirs, step.mine)
        both += int((~lost).sum())
        only_a.add(step.mine[lost], step.rows[lost], in_b)
        only_b.add(step.theirs[new], rows_b + np.flatnonzero(new), in_a)
        rows_b += len(step.theirs)
    for folder, only in ((a, only_a), (b, only_b)):
        only.shown = _looked_up(folder, only)
    return Shared(both, only_a, only_b)


def _looked_up(folder: str, only: Only) -> dict[str, list[Example]]:
    """The samples with their pictures: shards hold the pairs in the order of their uids."""
    names = [name for name, _ in only.fates.most_common(12)]
    if not names or not storage.exists(storage.join(folder, MANIFEST)):
        return {}
    try:
        dataset = open_dataset(folder)
    except ClipmillError:
        return {}
    starts = np.cumsum([0, *(shard.num_pairs for shard in dataset.shards)])
    return {name: [_example(dataset, starts, row) for _, row in only.samples[name]] for name in names}


def _example(dataset: Dataset, starts: np.ndarray, row: int) -> Example:
    shard = int(np.searchsorted(starts, row, "right")) - 1
    try:
        pair = dataset.read_pair(shard, row - int(starts[shard]))
    except (ClipmillError, IndexError):
        return Example(caption="(this pair cannot be read)")
    url = pair.meta.get("url")
    known = url if isinstance(url, str) else None
    return Example(uid=pair.uid, url=known, caption=pair.text[:500], thumb=thumbnail(pair.image))
