"""How many pairs the inputs of a recipe have, where that costs little to know: footers of parquet, manifests of shards,
names of files.

Of other inputs nothing is told: how many pairs a gigabyte of crawl has is another number for every crawl.
"""

import io
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from curation.runner.inputs.naming import Inputs
from curation.settings import CurateSettings
from curation.sources import SOURCES
from curation.sources.source import Input
from curation.sources.table.streams import RawFile
from pipeline import storage
from pipeline.contract.manifest import MANIFEST, Manifest
from pipeline.errors import DataError, one_line

MOST_FOOTERS = 64
"""Read of one source; of more files some, and the others by their bytes."""


class Counted(NamedTuple):
    """words: where the number is from."""

    pairs: int
    words: str


def counted(settings: CurateSettings, inputs: Inputs) -> Counted | None:
    """None where the files of some source do not tell. DataError: a footer or manifest is damaged."""
    total, words = 0, list[str]()
    for number, source in enumerate(settings.sources):
        mine = [each for at, each in inputs if at == number]
        if isinstance(source, SOURCES["table"]) and all(each.path.endswith(".parquet") for each in mine):
            found: Counted | None = _rows(mine)
        elif isinstance(source, SOURCES["shards"]):
            found = _promised(mine)
        elif isinstance(source, SOURCES["files"]):
            found = Counted(source.images(mine), "names of files")
        else:
            found = None
        if found is None:
            return None
        total += found.pairs
        words.append(found.words)
    return Counted(total, ", ".join(words))


def _rows(files: Sequence[Input]) -> Counted:
    """Rows of tables, of which each mentions at most one image."""
    some = files[:: -(-len(files) // MOST_FOOTERS)]
    rows = sum(_footer(each.path) for each in some)
    if len(some) == len(files):
        return Counted(rows, f"footers of {len(files)} tables")
    whole = sum(each.bytes for each in files)
    about = round(rows * whole / max(sum(each.bytes for each in some), 1))
    return Counted(about, f"footers of {len(some)} of {len(files)} tables, others by their bytes")


def _footer(url: str) -> int:
    try:
        return int(pq.read_metadata(io.BufferedReader(RawFile(url))).num_rows)
    except (pa.ArrowException, OSError) as error:
        found, hint = f"not readable as parquet: {one_line(error)}", "make it again or copy it again"
        raise DataError(f"{storage.shown(url)}, the footer", found, "an undamaged file", hint) from error


def _promised(files: Sequence[Input]) -> Counted | None:
    """Pairs of shards that manifests list."""
    folders = sorted({each.path.rpartition("/")[0] for each in files})
    if not all(storage.exists(storage.join(folder, MANIFEST)) for folder in folders):
        return None
    listed = {
        storage.join(folder, shard.name): shard.pairs for folder in folders for shard in Manifest.load(folder).shards
    }
    if not all(each.path in listed for each in files):
        return None
    return Counted(sum(listed[each.path] for each in files), f"manifests of {len(folders)} datasets")
