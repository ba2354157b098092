"""The manifest: written last, so a dataset without one is not finished. No clock and no host in it."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline import storage
from pipeline.contract.pairs import FORMAT_VERSION, MAX_PER_NAME, meta_bytes
from pipeline.errors import DataError

MANIFEST = "manifest.json"
MAX_MANIFEST = 128 << 20  # bytes: half a million shards


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ShardEntry(_Frozen):
    """One shard as published. bytes: of the tar; sha256, index_sha256: hex, of the tar and of its index file."""

    name: str = Field(pattern=r"^shard-[0-9]{6}\.tar$")
    pairs: int = Field(ge=1, le=MAX_PER_NAME)
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    index_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class StageCounts(_Frozen):
    """What one stage did: in = out + drops, for pairs and for captions."""

    name: str
    kind: str
    pairs_in: int
    pairs_out: int
    captions_in: int = 0
    captions_out: int = 0
    drops: dict[str, int] = {}
    caption_drops: dict[str, int] = {}


class InputPart(_Frozen):
    """One part of the input. path: a file name or URL, never an absolute local path; digest: of its content."""

    part: str
    path: str
    bytes: int
    digest: str
    counts: dict[str, int] = {}


class Manifest(_Frozen):
    format_version: int = FORMAT_VERSION
    name: str
    num_pairs: int
    shards: list[ShardEntry]
    stages: list[StageCounts] = []
    inputs: list[InputPart] = []
    recipe_digest: str = ""
    columns: list[str] = []  # the fields of KEY.json in this dataset

    @model_validator(mode="after")
    def _adds_up(self) -> "Manifest":
        names = [entry.name for entry in self.shards]
        if names != sorted(set(names)):
            raise ValueError("shards are not sorted and unique")
        if self.num_pairs != sum(entry.pairs for entry in self.shards):
            raise ValueError(
                f"num_pairs is {self.num_pairs}, the shards hold {sum(entry.pairs for entry in self.shards)}"
            )
        return self

    def digest(self) -> str:
        """32 hex digits naming the pairs and their order. Index files are left out (their bytes vary with the
        pyarrow version), and so is history (stages, inputs): the same tars are the same dataset."""
        shards = [entry.model_dump(exclude={"index_sha256"}) for entry in self.shards]
        content = meta_bytes({"format_version": self.format_version, "shards": shards})
        return hashlib.blake2b(content, digest_size=16).hexdigest()

    def save(self, folder: str) -> None:
        """Publishes it atomically. Call it last: from then on the dataset is finished."""
        content = self.model_dump(mode="json")
        storage.publish_json(storage.join(folder, MANIFEST), {**content, "self_digest": _self_digest(content)})

    @classmethod
    def load(cls, folder: str) -> "Manifest":
        """Raises DataError when absent, damaged, edited or of a newer format."""
        url = storage.join(folder, MANIFEST)
        if not storage.exists(url):
            hint = "run the curation command that makes it again; it resumes"
            raise DataError(storage.shown(folder), f"no {MANIFEST}", "a finished dataset", hint)
        where = storage.shown(url)
        try:
            content = json.loads(storage.read_bytes(url, most=MAX_MANIFEST))
            version, written = content.get("format_version"), content.pop("self_digest", None)
            computed = _self_digest(content)
        except (ValueError, RecursionError, AttributeError) as error:
            raise DataError(
                where, f"not a JSON object: {error}", "the file as written", "make the dataset again"
            ) from error
        if not isinstance(version, int) or version > FORMAT_VERSION:
            raise DataError(where, f"format version {version}", f"at most {FORMAT_VERSION}", "use a newer clipmill")
        if written != computed:
            raise DataError(
                where, f"self_digest {written}", f"{computed}: it is damaged or edited", "make the dataset again"
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(map(str, problem["loc"])) or "content"
            raise DataError(
                where, f"{place}: {problem['msg']}", "a manifest as pipeline/contract/README.md says"
            ) from error


def _self_digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(meta_bytes(content)).hexdigest()
