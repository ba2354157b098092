"""The base of every settings model, and the digest that names a set of settings.

Settings live beside what they set: each part derives its own frozen model from `Settings` in its own file.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Union

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

_LONGEST = 4096  # characters of a path
_LARGEST = 1 << 62  # of whole numbers: what is worked out with them has 64 bits


class Settings(BaseModel):
    """Frozen; an unknown key is an error, so that a typo can never be silently ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _is_no_larger_than_others_can_hold(cls, value: Any) -> Any:
        _check_plain(value)
        return value


def _check_plain(value: Any) -> None:
    """ValueError for whole numbers that 64 bits do not hold, and texts that have no bytes."""
    if isinstance(value, int):
        if abs(value) > _LARGEST:
            raise ValueError(f"expected a whole number of at most {_LARGEST}")
    elif isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("expected a text without half a surrogate pair") from None
    elif isinstance(value, dict):
        for each in (*value, *value.values()):
            _check_plain(each)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for each in value:
            _check_plain(each)


def _path_text(text: str) -> str:
    if not text.strip():
        raise ValueError("expected a path, not an empty text")
    if "\0" in text or len(text) > _LONGEST:
        raise ValueError(f"expected a path of at most {_LONGEST} characters without a NUL")
    return text


PathText = Annotated[str, AfterValidator(_path_text)]


def one_of(table: Mapping[str, type], default: str | None = None) -> Any:
    """The type of a setting whose `kind` picks from a literal table; `default`: what settings without a kind are of."""
    kinds = tuple(table.values())
    if len(kinds) == 1:
        return kinds[0]
    union: Any = Annotated[Union[kinds], Field(discriminator="kind")]  # noqa: UP007
    return union if default is None else Annotated[union, BeforeValidator(lambda given: _with_kind(given, default))]


def _with_kind(given: Any, default: str) -> Any:
    return {"kind": default, **given} if isinstance(given, dict) else given


def plain(value: Any) -> Any:
    """The JSON-able form of settings or plain data."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def digest_of(value: Any) -> str:
    """16 hex digits (64 bits) naming `value`: equal settings give equal digests on every machine."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
