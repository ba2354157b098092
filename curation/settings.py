"""The `curate` section of a recipe. Kinds come from the tables of curation/sources and curation/stages."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from curation.sources import SOURCES
from curation.stages import STAGES
from pipeline.settings import PathText, Settings, one_of


class ResizeSettings(Settings):
    """Re-encodes every image as JPEG. Without it the bytes of the crawl are passed through untouched."""

    max_side: int = Field(ge=16, le=16384, description="longest side in pixels; smaller images keep their size")
    quality: int = Field(default=92, ge=1, le=100)


class EmitSettings(Settings):
    """How the kept pairs are written."""

    pairs_per_shard: int = Field(default=5000, ge=1, le=1_000_000, description="most pairs in a shard; shards are even")
    other_formats: Literal["png", "drop"] = Field(
        default="png", description="images that are not JPEG, PNG or WebP: first frame as PNG, or dropped"
    )
    resize: ResizeSettings | None = None


class PlacementSettings(Settings):
    """What one task of a stage of this kind asks for."""

    cpus: float = Field(default=1.0, ge=0)
    gpus: float = Field(default=0.0, ge=0, description="a fraction shares one GPU between tasks")
    batch: int | None = Field(default=None, ge=1, description="images or texts a measure stage is given at once")


class RaySettings(Settings):
    """Where the work runs."""

    address: str | None = Field(
        default=None,
        description="an address of a running Ray cluster (`auto`, `host:6379`, `ray://host:10001`), `local` for a Ray "
        "of our own, `inline` for none (one process, for debugging); default: $RAY_ADDRESS if set, else `local`",
    )
    num_cpus: int | None = Field(default=None, ge=1, description="CPUs of a local Ray; default: all it may use")
    temp_dir: PathText | None = Field(default=None, description="short folder for a local Ray's sockets and logs")


class CurateSettings(Settings):
    """From raw crawls to shards."""

    sources: list[one_of(SOURCES)] = Field(min_length=1)  # type: ignore[valid-type]
    stages: list[one_of(STAGES)] = []  # type: ignore[valid-type]
    output: PathText = Field(description="folder or URL of the finished dataset")
    pool: PathText | None = Field(
        default=None, description="folder or URL of what was read and measured, shared by runs; default: <output>/_pool"
    )
    buckets: int = Field(default=16, ge=1, le=65536, description="units of parallel work; never changes the result")
    fresh: bool = Field(
        default=False,
        description="makes the output again from the pool even when it is finished: repairs what `data verify` names",
    )
    emit: EmitSettings = EmitSettings()
    ray: RaySettings = RaySettings()
    placement: dict[str, PlacementSettings] = Field(default={}, description="by stage kind")

    @field_validator("buckets")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError(f"expected a power of two, such as {1 << value.bit_length()}")
        return value

    @model_validator(mode="after")
    def _placed_stages_exist(self) -> "CurateSettings":
        kinds = {getattr(stage, "kind", "") for stage in self.stages}
        for kind in self.placement:
            if kind not in kinds:
                raise ValueError(f"placement names the stage {kind!r}, which is not in stages")
        return self

    @property
    def pool_folder(self) -> str:
        return self.pool or f"{self.output.rstrip('/')}/_pool"
