"""WebDataset tars as input: clipmill's own, img2dataset's, and others with an image, a caption and perhaps a .json.

One part is one tar, perhaps packed by gzip or zstd (with its NNNNN.parquet beside it, where the fields stand for
samples without .json). Images come with their bytes; captions are all that the fields hold, or the text members; fields
clipmill does not know go through in `extra`.

How odd and damaged ones are read: tar_source.py. But where a manifest or NNNNN_stats.json says that the tar holds more,
it is an error naming it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from curation.sources.shards.tar_source import Promise, TarSource
from curation.sources.shards.unpacked import SUFFIXES, sidecar_of, unpacked
from curation.sources.source import Part
from pipeline import storage
from pipeline.contract.manifest import MANIFEST, Manifest
from pipeline.errors import DataError
from pipeline.storage import Listed

if TYPE_CHECKING:
    from curation.pool.store import PoolSink

_STATS_BYTES = 16 << 20


class ShardsSource(TarSource):
    """Reads WebDataset tars."""

    kind: Literal["shards"] = "shards"

    version: ClassVar[int] = 7
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES

    def beside(self, files: Sequence[Listed]) -> dict[str, tuple[Listed, ...]]:
        """The table beside each tar. In a store one listing a folder tells of all."""
        tables = {file.url: sidecar_of(file.url, ".parquet") for file in files}
        asked = [table for table in tables.values() if storage.local_path(table) or not storage.can_list(table)]
        found = {table: storage.listed(table) for table in asked if storage.exists(table)}
        for folder in {_folder(table) for table in tables.values()} - {_folder(table) for table in asked}:
            found |= {file.url: file for file in storage.list_folder(folder).files}
        return {tar: (found[table],) for tar, table in tables.items() if table in found}

    def ingest(self, part: Part, sink: "PoolSink") -> dict[str, int]:
        """Counts: records (samples), images, and by reason bad_records, bad_members, bad_bodies, bad_texts; members and
        folders ignored; joined_samples, whose members lie apart; bytes_skipped by damage.

        Raises DataError naming the file when it is no tar, or does not hold what its manifest or counts say.
        """
        promised = _promised(part.path)
        with unpacked(part.path) as (window, fault):
            return self.read_tar(part, window, sink, fault, promised)


def _folder(path: str) -> str:
    return path[: -len(storage.basename(path))] or "./"


def _promised(path: str) -> Promise:
    """How many pairs the tar must hold, as far as anything beside it says. DataError when its bytes are other ones."""
    name, folder = storage.basename(path), _folder(path)
    if storage.exists(storage.join(folder, MANIFEST)):
        entry = next((one for one in Manifest.load(folder).shards if one.name == name), None)
        if entry is not None:
            found = storage.sha256_of(path)
            if found != entry.sha256:
                hint = "copy this shard again"
                raise DataError(storage.shown(path), f"sha256 {found[:16]}", f"{entry.sha256[:16]} in {MANIFEST}", hint)
            return Promise(entry.pairs, MANIFEST)
    stats = sidecar_of(path, "_stats.json")
    if storage.exists(stats):
        content = storage.json_object(storage.read_bytes(stats, most=_STATS_BYTES))
        if content is None:
            where, hint = storage.shown(stats), "make the shard again"
            raise DataError(where, "not a JSON object", "the counts of img2dataset", hint)
        successes = content.get("successes")
        if type(successes) is int:
            return Promise(successes, storage.basename(stats))
    return Promise(0, "nothing")
