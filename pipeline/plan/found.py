"""What a half foretells, as data that goes to JSON as it is. Bytes, seconds and counts, nothing rounded."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Note:
    """What a person has to know. `stop`: it does not fit and must not be started; `slow`: something waits; `note`: all
    else. `fix`: what to type, or empty."""

    level: Literal["stop", "slow", "note"]
    found: str
    fix: str = ""


@dataclass(frozen=True)
class StagePlan:
    """One stage of a training, the same on every step. `memory`, `traffic`: bytes of one rank by what they are for;
    `terms`: of each term of the loss, on one rank: bytes received, flops of products and bytes held between the passes,
    parameters that it trains beside the model's and bytes of those; or why it is not counted.
    `seconds`: of a step by what it does then; `used`: share of the device's peak by useful work alone (MFU)."""

    first: int
    steps: int
    pairs: int  # of a step, over all ranks
    rows: int  # of a step, of the fullest rank
    chunk: int
    chunks: int
    zero_stage: int
    precision: str
    parameters: int
    trained: int
    flops: float  # of a forward of one pair
    memory: dict[str, int]
    memory_limit: int
    traffic: dict[str, int]
    terms: dict[str, dict[str, int | str]]
    seconds: dict[str, float]
    step_s: float
    waits_for: str
    samples_per_s: float
    used: float
    reader_mb_s: float  # of a node
    decode_cores: float  # of a node

    @property
    def held(self) -> int:
        """Bytes that one rank holds at most."""
        return sum(self.memory.values())

    @property
    def fits(self) -> bool:
        return self.held <= self.memory_limit


@dataclass(frozen=True)
class SavePlan:
    """Checkpoints: `every_s` as the save clock would choose it, None where only steps count."""

    bytes: int
    seconds: float
    every_s: float | None
    number: int
    kept_bytes: int
    failures: float  # expected during the run
    lost_s: float  # done again after them


@dataclass(frozen=True)
class TrainPlan:
    stages: tuple[StagePlan, ...]
    save: SavePlan
    pairs: int  # drawn by all steps
    data_pairs: int | None  # of the dataset, where it is there
    data_bytes: int | None
    pair_bytes: float
    train_s: float
    total_s: float  # with saves, and what failures cost
    notes: tuple[Note, ...] = ()
    assumed: tuple[str, ...] = ()  # what the figures stand on


@dataclass(frozen=True)
class CurationPlan:
    """`cost`: tasks, files, reads, ... as the core's own table counts them; `hours`: on the cluster's nodes."""

    pairs: int
    counted: str  # where the number is from
    parts: int
    buckets: int
    cost: dict[str, int]
    bytes: int
    memory: int
    hours: float
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class Plan:
    name: str
    cluster: dict[str, float | str | None]
    curation: CurationPlan | None
    training: TrainPlan | None
    gpu_hours: float
    money: float | None
    storage: dict[str, int] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()

    @property
    def every_note(self) -> tuple[Note, ...]:
        """Of the whole and of both halves."""
        halves = (half.notes for half in (self.curation, self.training) if half is not None)
        return (*self.notes, *(note for notes in halves for note in notes))

    @property
    def fits(self) -> bool:
        """Nothing that must not be started."""
        return all(note.level != "stop" for note in self.every_note)
