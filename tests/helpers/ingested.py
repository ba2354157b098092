"""One WARC file read into a real pool."""

import hashlib
from pathlib import Path

import fsspec
import pyarrow.parquet as pq

from curation.pool.store import ImagePlace, ImageReader, PoolSink, part_folder
from curation.sources import SOURCES
from curation.sources.source import Part, Source
from tests.helpers.warcs import http, png, record


def parts_of(source: Source, where: str = "curate.sources") -> list[Part]:
    """The parts of a source, named by their bytes as this helper reads them."""
    inputs = source.inputs(where)
    digests = ["".join(hashlib.blake2b(_read(file.url), digest_size=16).hexdigest() for file in each.files)
               for each in inputs]  # fmt: skip
    return source.parts(inputs, digests)


def _read(url: str) -> bytes:
    if "://" not in url:
        return Path(url).read_bytes()
    with fsspec.open(url) as file:
        return file.read()


class Ingested:
    """The rows and counts of one file read into a pool."""

    def __init__(self, tmp_path: Path, data: bytes, name: str = "a.warc.gz", kind: str = "warc", **more: int) -> None:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(data)
        source = SOURCES[kind](paths=[str(path)], **more)
        (part,) = parts_of(source)
        self.pool, self.part = str(tmp_path / "pool"), part.id
        with PoolSink(self.pool, part.id) as sink:
            self.counts = source.ingest(part, sink)
            sink.finish(self.counts)
        folder = part_folder(self.pool, part.id)
        self.images = {row["url"]: row for row in pq.read_table(f"{folder}/images.parquet").to_pylist()}
        self.occurrences = pq.read_table(f"{folder}/occurrences.parquet").to_pylist()

    def body(self, url: str) -> bytes:
        row = self.images[url]
        return ImageReader(self.pool).read(ImagePlace(self.part, row["offset"], row["size"], row["sha256"]))

    def bad(self) -> dict[str, int]:
        return {name: count for name, count in self.counts.items() if name.startswith("bad_")}


def images(count: int) -> list[bytes]:
    return [record(f"http://e.org/{i}.png", http(png(i))) for i in range(count)]
