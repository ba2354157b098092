"""Tasks that end in errors of each sort, and what must be heard of them wherever they ran."""

from typing import Any

import pytest

from curation.runner.calls import Call
from pipeline.errors import ClipmillError, DataError, StorageError


def refuse(job: Any) -> None:
    raise DataError("stage x, bucket 3", "ValueError: no", "no exception", "look at y.py:7")


def full(job: Any) -> None:
    raise OSError(28, "No space left on device", "/some/file")


def odd(job: Any) -> None:
    raise KeyError("what")


def errors_arrive_as_they_left(place: Any) -> None:
    with pytest.raises(DataError) as error:
        list(place.run([Call(refuse, (), "r")]))
    assert str(error.value) == "stage x, bucket 3: ValueError: no; no exception\nhint: look at y.py:7"
    with pytest.raises(StorageError, match="/some/file: .*No space left"):
        list(place.run([Call(full, (), "f")]))
    with pytest.raises(ClipmillError, match="odd: KeyError: 'what'"):
        list(place.run([Call(odd, (), "o")]))
