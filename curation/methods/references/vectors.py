"""Vectors of a reference set: of its images, by a CLIP model, or as somebody has made them already.

*.npy                 floats [item, value]
*.npz                 the array of that `key` (DataComp's l14_img), or the only one
*.parquet, *.pq       a column `key` of lists of floats
anything else         an evaluation set (items.py beside this), whose images are given to the model here, in pieces
"""

import functools
import io
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field, field_validator

from curation.methods.references.items import Place, images_at, listed_files, places
from curation.methods.vectors.clip_files import digests
from curation.methods.vectors.clip_model import ClipModel, ClipVectors, maker_of, own_is_none
from curation.stage import Stage
from curation.table.file_digests import file_digest
from pipeline import storage
from pipeline.errors import DataError, RecipeError, one_line
from pipeline.images.decoder import Picture, Refused
from pipeline.log import get_logger
from pipeline.settings import Settings, digest_of

log = get_logger("curation")
_ARRAYS, _TABLES = (".npy", ".npz"), (".parquet", ".pq")
_BATCH = 256
_PIECE = 1024  # pictures that one task embeds
LOCATED = pa.schema([("name", pa.string()), ("file", pa.string()), ("start", pa.int64()), ("size", pa.int64())])
"""Where the picture of each item lies (items.Place)."""
PIECES_OF_A_SET = 49
"""Of 50,000 pictures: what a plan takes for granted of a set that nobody has looked into."""
EMBEDDED = pa.schema([("name", pa.string()), ("vector", pa.binary())])


class Embedder(Settings):
    """The model that the images of a reference set are shown to: that of the stage `clip_image_vector` before, in the
    same words (methods/vectors/clip_model.py)."""

    model: str = Field("ViT-B-32", min_length=1)
    pretrained: str | None = Field(None, min_length=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    chunk: int = Field(32, ge=1)

    _own = field_validator("pretrained")(own_is_none)

    def file_digests(self, where: str) -> dict[str, tuple[str, str]]:
        found = digests(self.model, self.pretrained, where)
        return {f"embed.{name}": each for name, each in found.items()}

    def digest(self, where: str) -> str:
        """As ClipVectors.model_digest."""
        said = {"model": self.model, "pretrained": self.pretrained}
        found = digests(self.model, self.pretrained, where)
        return digest_of(said | {name: each for name, (_, each) in found.items()})

    def check(self, where: str, by: Stage | None) -> None:
        """RecipeError when `by`, the stage whose vectors are compared, is of another model."""
        if by is not None and maker_of(by) != self.digest(where):
            shown = f"{by.model} with {by.pretrained}" if isinstance(by, ClipVectors) else by.kind
            found = f"{self.model} with {self.pretrained}, where the pool's vectors are of {shown}"
            hint = f"give {where} the same model and pretrained as the stage `{by.kind}`"
            raise RecipeError(where, found, "expected one model: vectors of two have nothing in common", hint)


def is_of_vectors(path: str) -> bool:
    return path.lower().endswith((*_ARRAYS, *_TABLES))


def check_reference(path: str, embedder: Embedder | None, where: str, at: str, by: Stage | None) -> None:
    """RecipeError before any work: no such set, no model for its images, another model (named
    `at`) than that of the stage `by`."""
    if is_of_vectors(path):
        file_digest(path, where)
        return
    listed_files(path, where)
    if embedder is None:
        found = f"{storage.shown(path)} is of images, and no model is named for them"
        raise RecipeError(where, found, "expected `embed`, or a file of vectors", f"{at}.model=... {at}.pretrained=...")
    embedder.check(at, by)


def located(path: str, where: str, before: str = "") -> pa.Table:
    """LOCATED of all items of a set of images, `before` put before their names. DataError where it has none."""
    columns = [list(each) for each in zip(*places(path, where), strict=True)]
    if not columns:
        raise none_decodes(path)
    return pa.table([[before + name for name in columns[0]], *columns[1:]], schema=LOCATED)


def none_decodes(path: str) -> DataError:
    hint = "give the folder that holds the pictures, or a file of their vectors"
    return DataError(storage.shown(path), "holds no picture that decodes", "expected a reference set of pictures", hint)


def located_in(state: pa.Table) -> pa.Table:
    """The rows of a state that say where pictures lie."""
    return state.filter(pc.is_valid(state["file"]))


def pieces_of(items: int) -> int:
    return -(-items // _PIECE)


def embedded(located: pa.Table, piece: int, embedder: Embedder, where: str) -> pa.Table:
    """EMBEDDED: the vectors (float16, as bytes) of one piece of the items; those without a picture that decodes are
    left out, with a warning."""
    model = _model(embedder, where, embedder.digest(where))
    rows = located.select(LOCATED.names).slice(piece * _PIECE, _PIECE)
    some = [Place(*row.values()) for row in rows.to_pylist()]
    names: list[str] = []
    plain: list[bytes] = []
    waiting: list[Any] = []
    for place, body in zip(some, images_at(some), strict=True):
        try:
            waiting.append(Picture(body).rgb(model.background))
        except Refused:
            continue
        names.append(place.name)
        if len(waiting) == _BATCH:
            plain += [vector.tobytes() for vector in model.images(waiting, embedder.chunk).astype("<f2")]
            waiting = []
    if waiting:
        plain += [vector.tobytes() for vector in model.images(waiting, embedder.chunk).astype("<f2")]
    if left_out := len(some) - len(names):
        first = storage.shown(some[0].file)
        log.warning("%s and on: %d items without a picture that decodes have no vector", first, left_out)
    return pa.table([names, plain], schema=EMBEDDED)


@functools.lru_cache(maxsize=1)
def _model(embedder: Embedder, where: str, digest: str) -> ClipModel:
    """Loaded once a process."""
    return ClipModel.load(embedder.model, embedder.pretrained, embedder.precision, where)


def stored(path: str, key: str | None, where: str) -> np.ndarray:
    """float16 [item, value]. DataError for a file of vectors that is none, or holds what is not finite."""
    try:
        data = storage.read_bytes(path)
        array = _of_table(data, key) if path.lower().endswith(_TABLES) else _of_array(data, key)
    except (ValueError, KeyError, OSError, EOFError, pa.ArrowException) as error:
        raise DataError(storage.shown(path), one_line(error), f"vectors, for {where}", "") from None
    if array.ndim != 2 or not len(array) or array.dtype.kind != "f" or not np.isfinite(array).all():
        found = f"{array.dtype} of shape {array.shape}" + ("" if array.dtype.kind != "f" else ", or not finite")
        raise DataError(storage.shown(path), found, "finite floats [item, value]", "")
    norms = np.linalg.norm(array.astype(np.float64), axis=1, keepdims=True)
    return (array / np.where(norms > 0, norms, 1)).astype(np.float16)


def _of_array(data: bytes, key: str | None) -> Any:
    found = np.load(io.BytesIO(data), allow_pickle=False)
    if isinstance(found, np.ndarray):
        return found
    names = [key] if key else found.files
    if len(names) != 1 or names[0] not in found.files:
        raise ValueError(f"holds {', '.join(found.files)}: name one of them as `key`")
    return found[names[0]]


def _of_table(data: bytes, key: str | None) -> Any:
    if not key:
        raise ValueError("is parquet, and no column is named: name it as `key`")
    column = pq.read_table(io.BytesIO(data), columns=[key]).column(0).combine_chunks()
    return np.stack([np.asarray(each, np.float32) for each in column.to_pylist()])
