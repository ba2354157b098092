"""The fields of a problem that a target asks for."""

from torch import Tensor

from pipeline.errors import DataError
from training.terms.cores.step import Step


def row_field(step: Step, name: str, target: str, queued: bool) -> Tensor:
    """Of this rank's rows, the queue's behind them where they are there, or must be (`queued`)."""
    had = _had(step.problem.row_fields, name, target)
    if queued and len(had) != len(step.row_RD):
        raise DataError(
            f"target {target}", f"no {name} of the queue", "one for each queued image, behind those of the rows"
        )
    return had


def text_field(step: Step, name: str, target: str) -> Tensor:
    return _had(step.problem.text_fields, name, target)


def _had(fields: dict[str, Tensor], name: str, target: str) -> Tensor:
    if name not in fields:
        raise DataError(f"target {target}", f"no field {name!r}", f"one of {sorted(fields)}", "name it in the recipe")
    return fields[name]
