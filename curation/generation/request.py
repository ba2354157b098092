"""One call of a model for one text: what is sent, and what comes back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """images: bodies as the pool has them (any format); shown before the text."""

    role: Role
    text: str
    images: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Request:
    """messages: the rendered prompt. key: 32 hex naming what is asked about, as in the columns. sample: which one of
    several answers. id: 32 hex naming both, prompt, model and parameters: goes with the call as its idempotency key.
    seed: a keyed draw, 31 bits. row: the input columns by name, for backends that are functions of them.
    """

    messages: tuple[Message, ...]
    key: str
    sample: int = 0
    id: str = ""
    seed: int = 0
    row: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """text as it came, unchecked. finish: "stop", "length" (cut off), "filtered" (by the server), or what the server
    says. failed: why there is no text, a short reason; `passing`: another day it might work. tokens: as the server
    counts them, 0 where it does not."""

    text: str = ""
    score: float | None = None
    finish: str = "stop"
    tokens_in: int = 0
    tokens_out: int = 0
    failed: str = ""
    passing: bool = False


@dataclass(frozen=True)
class Terms:
    """What an answer costs. max_tokens: of one, at most, None where nothing bounds it; prices per million tokens."""

    model: str = ""
    max_tokens: int | None = None
    price_in: float = 0.0
    price_out: float = 0.0


def storable(text: str) -> str:
    """Half a character, where a server cut between the two of an emoji, can stand in JSON but in no file of ours."""
    return text.encode("utf-8", "replace").decode()
