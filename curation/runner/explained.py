"""Exceptions of stages and sources, told with the place and the line that they came from."""

import traceback
from typing import Any

from pipeline.errors import ClipmillError, DataError


class explained:
    """Any exception but ours leaves as a DataError that says where, and at which line of which file."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, ClipmillError) or not isinstance(error, Exception):
            return
        frames = traceback.extract_tb(trace)
        at = f"{frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
        homes = ("/curation/stages/", "/curation/sources/")
        ours = next((f for f in reversed(frames) if any(home in f.filename for home in homes)), None)
        if ours is not None and ours is not frames[-1]:
            at = f"{ours.filename}:{ours.lineno} in {ours.name}, from there {at}"
        text = " ".join(str(error).split())[:500]
        raise DataError(self._where, f"{type(error).__name__}: {text}", "no exception", f"look at {at}") from error
