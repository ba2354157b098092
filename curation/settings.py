"""The `curate` section of a recipe. Kinds come from the tables of curation/sources and curation/stages."""

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from curation.fetch.settings import FetchSettings
from curation.generation.chain import expanded
from curation.images.resize import SizeSettings
from curation.images.shrink import ShrinkSettings
from curation.sources import SOURCES
from curation.stage import Measure
from curation.stage_order import added
from curation.stages import STAGES
from curation.stages.generate import GenerateText
from pipeline.outputs import POOL
from pipeline.settings import PathText, Settings, one_of

_LEAST_SHARE = 0.0001  # the smallest share of a CPU or GPU that Ray counts
_CONCEPTS = "captions.concepts"


class ResizeSettings(SizeSettings):
    """How images are made smaller where shards are written. Without it the bytes of the pool are passed through."""

    keep_small: bool = Field(
        default=False, description="JPEG, PNG and WebP that are small enough already keep their bytes"
    )


class EmitSettings(Settings):
    """How the kept pairs are written."""

    pairs_per_shard: int = Field(default=5000, ge=1, le=1_000_000, description="most pairs in a shard; shards are even")
    bytes_per_shard: int | None = Field(
        default=None,
        ge=1 << 10,
        description="about so many bytes of images, as they are in the pool, in a shard, by their mean",
    )
    other_formats: Literal["png", "drop"] = Field(
        default="png", description="images that are not JPEG, PNG or WebP: first frame as PNG, or dropped"
    )
    resize: ResizeSettings | None = None
    concepts: bool = Field(
        default=False,
        description="a folder that says how often each entry of the list is mentioned, in bins, and by which pairs",
    )


class ActorSettings(Settings):
    """How many processes a pool has: `min` as soon as there is work for them, more while each has two tasks to do."""

    min: int = Field(default=1, ge=1)
    max: int | None = Field(default=None, ge=1, description="default: as many as the cluster has room for")

    @model_validator(mode="after")
    def _in_order(self) -> "ActorSettings":
        if self.max is not None and self.max < self.min:
            raise ValueError(f"expected max to be at least min, {self.min}")
        return self


class PlacementSettings(Settings):
    """What one task of a stage of this kind asks for. Stages that share a task get the most that one asks for."""

    cpus: float = Field(default=1.0, ge=0)
    gpus: float = Field(default=0.0, ge=0, description="a fraction shares one GPU between tasks")
    memory: int = Field(
        default=0, ge=0, description="bytes that Ray keeps free on the node for each task; 0: it does not look"
    )
    actors: ActorSettings | None = Field(
        default=None,
        description="a pool of processes that live as long as the stage, each with its model and its GPU: how many, as "
        "{min, max} or a number; default: {min: 1} for a stage with gpus, none for others",
    )
    batch: int | None = Field(default=None, ge=1, description="images or texts a measure stage is given at once")

    @property
    def needs_ray(self) -> bool:
        """It asks for what processes of one machine cannot promise each other."""
        return bool(self.gpus or self.memory or self.actors) or self.cpus != 1

    @field_validator("actors", mode="before")
    @classmethod
    def _a_number_is_both(cls, value: Any) -> Any:
        return {"min": value, "max": value} if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("cpus", "gpus")
    @classmethod
    def _ray_can_give_it(cls, value: float, info: ValidationInfo) -> float:
        # Ray would refuse these too, but only when inputs are read and the first such task is due.
        if 0 < value < _LEAST_SHARE:
            raise ValueError(f"expected 0, or at least {_LEAST_SHARE}")
        if info.field_name == "gpus" and value > 1 and value != int(value):
            raise ValueError("expected a share of one GPU up to 1, or a whole number of GPUs")
        return value


class RaySettings(Settings):
    """Where the work runs."""

    address: str | None = Field(
        default=None,
        description="an address of a running Ray cluster (`auto`, `host:6379`, `ray://host:10001`), `local` for a Ray "
        "of our own, or none: `processes` of this machine, one for each CPU, or `inline`, this process; default: "
        "$RAY_ADDRESS if set, else the least of the last three that is as fast",
    )
    num_cpus: int | None = Field(
        default=None, ge=1, description="CPUs of a local Ray, or number of `processes`; default: all that may be used"
    )
    temp_dir: PathText | None = Field(default=None, description="short folder for a local Ray's sockets and logs")
    runtime_env: dict[str, Any] | None = Field(
        default=None,
        description="given to Ray as it is: what it brings to the nodes (`working_dir`, `pip`, `env_vars`, ...); "
        "default: every node has the same clipmill installed",
    )


class CurateSettings(Settings):
    """From raw crawls to shards."""

    sources: list[one_of(SOURCES)] = Field(min_length=1)  # type: ignore[valid-type]
    stages: list[one_of(STAGES)] = []  # type: ignore[valid-type]
    output: PathText = Field(description="folder or URL of the finished dataset")
    pool: PathText | None = Field(
        default=None,
        description=f"folder or URL of what was read and measured, shared by jobs; default: <output>/{POOL}",
    )
    buckets: int | None = Field(
        default=None,
        ge=1,
        le=65536,
        description="units of parallel work; never changes the result; default: as many as the crawl needs",
    )
    fresh: bool = Field(
        default=False,
        description="makes the output again from the pool even when it is finished: repairs what `data verify` names",
    )
    keep: int = Field(
        default=2,
        ge=0,
        le=64,
        description="the pairs of so many segments stay in the output's working folder, so that a threshold changed "
        "late in the recipe, or other shards, redo only what depends on them; 0 keeps nothing",
    )
    fetch: FetchSettings | bool | None = Field(
        default=None,
        description="downloads the images that inputs mention and the pool does not hold; default: for sources that "
        "give urls alone, and no others; `true` or settings: for all; `false`: never",
    )
    shrink: ShrinkSettings | None = Field(
        default=None,
        description="makes images smaller as they enter the pool, where they are decoded once and for all; default: "
        "they are kept as they come",
    )
    emit: EmitSettings = EmitSettings()
    ray: RaySettings = RaySettings()
    placement: dict[str, PlacementSettings] = Field(default={}, description="by stage kind")

    @field_validator("stages", mode="before")
    @classmethod
    def _chains_are_their_steps(cls, value: Any) -> Any:
        return expanded(value, GenerateText)

    @field_validator("buckets")
    @classmethod
    def _power_of_two(cls, value: int | None) -> int | None:
        if value and value & (value - 1):
            raise ValueError(f"expected a power of two, such as {1 << value.bit_length()}")
        return value

    @field_validator("placement")
    @classmethod
    def _reaches_a_stage(
        cls, value: dict[str, PlacementSettings], info: ValidationInfo
    ) -> dict[str, PlacementSettings]:
        if "stages" not in info.data:  # refused already, by a better name
            return value
        stages = {stage.kind: stage for stage in info.data["stages"]}
        for kind, placement in value.items():
            if kind not in stages:
                raise ValueError(f"the stage {kind!r} is not in stages")
            if placement.batch is not None and not isinstance(stages[kind], Measure):
                raise ValueError(f"{kind} is given whole buckets, so expected no batch for it")
        return value

    @field_validator("emit")
    @classmethod
    def _has_concepts(cls, value: EmitSettings, info: ValidationInfo) -> EmitSettings:
        stages = info.data.get("stages")
        if value.concepts and stages is not None and not any(_CONCEPTS in added(stage) for stage in stages):
            raise ValueError("concepts: no stage says what captions mention; put `concept_match` into stages")
        return value

    @property
    def fetching(self) -> FetchSettings | None:
        """How images are downloaded; None when none are."""
        if isinstance(self.fetch, FetchSettings):
            return self.fetch if self.fetch.enabled else None
        on = any(map(self.is_fetched, range(len(self.sources))))
        return FetchSettings() if on else None

    def is_fetched(self, source: int) -> bool:
        """Whether images are downloaded that this source mentions."""
        return bool(self.sources[source].fetches if self.fetch is None else self.fetch)

    @property
    def needs_ray(self) -> bool:
        """Tasks ask for devices, memory or pools of processes."""
        asks = any(each.needs_ray for each in self.placement.values())
        return asks or any(stage.actors for stage in self.stages if isinstance(stage, Measure))

    @property
    def pool_folder(self) -> str:
        return self.pool or f"{self.output.rstrip('/')}/{POOL}"
