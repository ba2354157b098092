"""`clipmill reinforce`: writes what teachers say of a finished dataset into side-cars beside its shards.

A shard is a part of the work: both of its files are published whole, then a state that vouches for them, so a run that
was stopped goes on with the next shard. Shards are dealt to the ranks; the manifest is written last, by the first.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import storage
from pipeline.cluster.rundir.feed import feed_of
from pipeline.contract.dataset import Dataset, open_dataset
from pipeline.contract.manifest import MANIFEST
from pipeline.contract.reinforced.manifest import (
    STATE,
    ReinforcedManifest,
    SetShard,
    TeacherEntry,
    set_folder,
    side_cars,
)
from pipeline.contract.reinforced.side_cars import write_side_cars
from pipeline.errors import DataError, RecipeError
from pipeline.log import get_logger
from pipeline.outputs import WORK
from pipeline.progress import progress
from pipeline.recipe.differences import differences
from pipeline.settings import digest_of
from pipeline.signals import StopSignals
from training.companions.running.models import frozen_towers
from training.output.folder import claimed
from training.ranks.agreement import on_every_rank, on_first_rank
from training.ranks.peers import Peers
from training.reinforce.looks import Looks
from training.reinforce.settings import ReinforceSettings
from training.towers.digest import image_digest, text_digest

if TYPE_CHECKING:
    from training.towers.towers import Towers

log = get_logger("reinforce")


def reinforce(settings: ReinforceSettings, *, seed: int, peers: Peers, stop: StopSignals) -> list[ReinforcedManifest]:
    """A finished set beside each dataset. Collective.

    Stopped (75) after a signal, with all whole shards kept; RecipeError when there is a set of that name that other
    settings made; DataError for a dataset that is none, or damaged.
    """
    datasets = on_every_rank(peers, lambda: [_opened(url) for url in settings.data])[peers.rank]
    teachers: dict[str, Towers] = {}
    for one in settings.teachers:
        towers = frozen_towers(one.model, one.checkpoint, peers)
        teachers[one.name] = towers.requires_grad_(False).eval().to(peers.device)
    looks = Looks(settings, seed, teachers, peers.device)
    return [_Writing(settings, seed, dataset, looks, peers, stop).written() for dataset in datasets]


def _opened(url: str) -> Dataset:
    if not storage.exists(storage.join(url, MANIFEST)):
        raise DataError(storage.shown(url), f"has no {MANIFEST}", "a dataset that clipmill has curated")
    return open_dataset(url)


class _Writing:
    """One set of one dataset."""

    def __init__(
        self, settings: ReinforceSettings, seed: int, dataset: Dataset, looks: Looks, peers: Peers, stop: StopSignals
    ) -> None:
        self.settings, self.dataset, self.looks, self.peers, self.stop = settings, dataset, looks, peers, stop
        self.folder, self.feed, self.done = set_folder(dataset.url, settings.set), feed_of("reinforce", peers.rank), 0
        image = settings.image.model_dump(mode="json")
        entries = [
            TeacherEntry(name=name, image=image_digest(one), text=text_digest(one),
                         image_width=one.embed_dim, text_width=one.embed_dim)
            for name, one in looks.teachers.items()
        ]  # fmt: skip
        self.wanted = {
            "data": dataset.digest, "seed": seed, "views": settings.views, "dtype": settings.dtype, "image": image,
            "teachers": [entry.model_dump() for entry in entries],
        }  # fmt: skip
        self.key = digest_of({**self.wanted, "negatives": settings.negatives, "precision": settings.precision})

    def written(self) -> ReinforcedManifest:
        if storage.local_path(self.folder) is None:
            return self._written()
        with claimed(Path(self.folder), self.peers):
            return self._written()

    def _written(self) -> ReinforcedManifest:
        self.looks.refused = 0
        before = on_first_rank(self.peers, self._finished)
        if before is not None:
            self._say("finished before: %s", storage.shown(self.folder))
            return before
        ours = range(self.peers.rank, len(self.dataset.shards), self.peers.world)
        with progress(len(ours), "reinforce", "shards", quiet=self.peers.rank != 0) as meter:
            parts = on_every_rank(self.peers, lambda: {n: self._shard(n, meter.advance) for n in ours})
        shards: dict[int, SetShard] = {n: shard for part in parts for n, shard in part.items()}
        manifest = ReinforcedManifest(**self.wanted, shards=[shards[n] for n in sorted(shards)])
        on_first_rank(self.peers, lambda: self._close(manifest))
        refused = sum(self.peers.gather_object(self.looks.refused))
        self._say("%s: %d pairs, %d whose picture cannot be opened", storage.shown(self.folder),
                  sum(one.pairs for one in manifest.shards), refused)  # fmt: skip
        return manifest

    def _finished(self) -> ReinforcedManifest | None:
        """The set, where it is finished and these settings made it."""
        if self.settings.fresh:
            storage.remove(storage.join(self.folder, STATE))
            for name in storage.list_names(self.folder):
                if name.endswith((".bin", ".parquet")):
                    storage.remove(storage.join(self.folder, name))
            storage.remove(storage.join(self.folder, WORK), recursive=True)
        if not storage.exists(storage.join(self.folder, STATE)):
            return None
        found = ReinforcedManifest.load(self.dataset.url, self.settings.set)
        had = found.model_dump(mode="json", include=set(self.wanted))
        if changed := [*differences(had, self.wanted, ignored=())]:
            words = "; ".join(str(one) for one in changed)
            hint = "reinforce.fresh=true to write it anew, or another reinforce.set"
            raise RecipeError(storage.shown(self.folder), f"is finished, but made otherwise: {words}", "the same", hint)
        return found

    def _shard(self, number: int, tick: Any) -> SetShard:
        state = storage.join(self.folder, WORK, f"shard-{number:06d}.json")
        had = storage.read_state(state)
        self.done += 1  # when the next one is begun
        if had and had["key"] == self.key and not storage.faults_of(self.folder, had["files"]):
            tick()
            return SetShard(**had["shard"])
        pairs = self.looks.of_shard(self.dataset, number, self._breathe)
        made = write_side_cars(self.folder, number, pairs)
        notes = {name: storage.note_of(storage.join(self.folder, name)) for name in side_cars(number)}
        storage.publish_state(state, {"key": self.key, "shard": made.model_dump()}, notes)
        tick()
        return made

    def _breathe(self) -> None:
        """Between batches: the run directory hears that this lives, and a stop is seen."""
        done, of = (self.done - 1) * self.peers.world, len(self.dataset.shards)
        self.feed.task(min(done, of), of, "reinforce")
        self.stop.check("reinforce")

    def _close(self, manifest: ReinforcedManifest) -> None:
        manifest.save(self.dataset.url, self.settings.set)
        storage.remove(storage.join(self.folder, WORK), recursive=True)

    def _say(self, words: str, *about: Any) -> None:
        if self.peers.rank == 0:
            log.info(words, *about)
