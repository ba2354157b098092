"""The manifest of a reinforced set: written last, so a set without one is not finished. No clock and no host in it."""

import hashlib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline import storage
from pipeline.contract.pairs import MAX_PER_NAME, meta_bytes
from pipeline.errors import DataError

FOLDER, STATE = "reinforced", "reinforced.json"
VERSION = 1
MAX_VIEWS = 1024
WRITE = "clipmill reinforce RECIPE"
NAME = r"^[a-z][a-z0-9_]*$"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TeacherEntry(_Frozen):
    """`image`, `text`: digests of the two towers' weights; widths: numbers of a vector."""

    name: str = Field(pattern=NAME)
    image: str
    text: str
    image_width: int = Field(ge=1, le=1 << 20)
    text_width: int = Field(ge=1, le=1 << 20)


class SetShard(_Frozen):
    """The side-cars of one shard, in the order of the dataset's. bytes, sha256: of the vectors."""

    pairs: int = Field(ge=1, le=MAX_PER_NAME)
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    index_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class ReinforcedManifest(_Frozen):
    """data: digest of the dataset; image: how pictures are opened and views were drawn, as `train.image` says it."""

    version: int = VERSION
    data: str
    seed: int
    views: int = Field(ge=1, le=MAX_VIEWS)
    dtype: Literal["fp16", "bf16", "fp32"]
    image: dict[str, Any]
    teachers: list[TeacherEntry] = Field(min_length=1)
    shards: list[SetShard]

    def digest(self) -> str:
        """32 hex digits naming views and vectors. Index files are left out: their bytes vary with pyarrow's version."""
        content = self.model_dump(mode="json", exclude={"shards"})
        content["shards"] = [one.model_dump(exclude={"index_sha256"}) for one in self.shards]
        return hashlib.blake2b(meta_bytes(content), digest_size=16).hexdigest()

    def teacher(self, name: str) -> TeacherEntry | None:
        return next((one for one in self.teachers if one.name == name), None)

    def save(self, dataset: str, name: str) -> None:
        """Publishes it atomically. Call it last: from then on the set is finished."""
        storage.publish_state(storage.join(set_folder(dataset, name), STATE), self.model_dump(mode="json"))

    @classmethod
    def load(cls, dataset: str, name: str) -> "ReinforcedManifest":
        """DataError, saying what to type, when there is no finished set of that name, or its manifest is damaged."""
        folder = set_folder(dataset, name)
        where = storage.shown(storage.join(folder, STATE))
        if not storage.exists(storage.join(folder, STATE)):
            hint = f"{WRITE} (with reinforce.set={name}) writes it, and goes on where it was stopped"
            raise DataError(storage.shown(folder), f"no {STATE}", f"a finished reinforced set `{name}`", hint)
        content = storage.read_state(storage.join(folder, STATE), quiet=True)
        again = f"{WRITE} reinforce.fresh=true writes it anew"
        if content is None:
            raise DataError(where, "is damaged or edited", "the file as written", again)
        content.pop("files")
        if (version := content.get("version")) != VERSION:
            raise DataError(where, f"version {version}", f"version {VERSION}", "use the clipmill that wrote it")
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            fault = error.errors()[0]
            place = ".".join(map(str, fault["loc"])) or "content"
            raise DataError(where, f"{place}: {fault['msg']}", "a manifest of a reinforced set", again) from error


def set_folder(dataset: str, name: str) -> str:
    return storage.join(dataset, FOLDER, name)


def side_cars(shard: int) -> tuple[str, str]:
    """Names of a shard's vectors and of their index."""
    return f"shard-{shard:06d}.bin", f"shard-{shard:06d}.parquet"
