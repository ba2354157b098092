"""Finds and loads what a run has left behind. A part that has not run yet is None; a damaged file is a DataError."""

from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline import storage
from pipeline.contract.manifest import MANIFEST
from pipeline.errors import DataError
from pipeline.outputs import DRY_RUN, EVAL, EVALS, METRICS, RECIPE, SUMMARY
from pipeline.report.drawing.curves import Steps, read_steps
from pipeline.report.schemas import DryRun, EvalPoint, EvalResults, ManifestCounts, Summary

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Curated:
    summary: Summary
    manifest: ManifestCounts | None
    folder: str
    has_recipe: bool


@dataclass(frozen=True)
class Trained:
    steps: Steps
    evals: list[tuple[int, dict[str, float]]]  # (step, {"<set>/<metric>": number}), by step, each step once
    folder: str
    has_recipe: bool


@dataclass(frozen=True)
class Evaluated:
    results: EvalResults
    folder: str


@dataclass(frozen=True)
class RunData:
    """Everything the report shows. Each section is None until its command has written its output."""

    name: str
    curated: Curated | None
    trained: Trained | None
    evaluated: Evaluated | None
    asked: DryRun | None = None


def load_run(*, curate_output: str | None, train_output: str | None, eval_output: str | None, name: str) -> RunData:
    """Load whatever exists; DataError if nothing does."""
    found = _curated(curate_output), _trained(train_output), _evaluated(eval_output), dry_run_in(curate_output)
    data = RunData(name, *found)
    if not any(found):
        looked = [place for place in (curate_output, train_output, eval_output) if place]
        raise DataError(
            f"report of {name}",
            "nothing has run yet (looked in " + (", ".join(looked) or "no folder at all") + ")",
            f"{SUMMARY}, {METRICS} or {EVAL} in one of the run's output folders",
            hint="run `clipmill curate <recipe>` or `clipmill run <recipe>` first, or check the `output` paths",
        )
    return data


def _curated(folder: str | None) -> Curated | None:
    if not folder or not storage.exists(url := storage.join(folder, SUMMARY)):
        return None
    manifest_url = storage.join(folder, MANIFEST)
    manifest = _read(manifest_url, ManifestCounts) if storage.exists(manifest_url) else None
    return Curated(_read(url, Summary), manifest, folder, storage.exists(storage.join(folder, RECIPE)))


def dry_run_in(folder: str | None) -> DryRun | None:
    """What the last dry run has found; DataError when it is damaged."""
    if not folder or not storage.exists(url := storage.join(folder, DRY_RUN)):
        return None
    return _read(url, DryRun)


def _trained(folder: str | None) -> Trained | None:
    if not folder or not storage.exists(url := storage.join(folder, METRICS)):
        return None
    steps = read_steps(url)
    if not len(steps):
        return None
    evals_url = storage.join(folder, EVALS)
    evals = _eval_points(evals_url) if storage.exists(evals_url) else []
    return Trained(steps, evals, folder, storage.exists(storage.join(folder, RECIPE)))


def _evaluated(folder: str | None) -> Evaluated | None:
    if not folder or not storage.exists(url := storage.join(folder, EVAL)):
        return None
    return Evaluated(_read(url, EvalResults), folder)


def _eval_points(url: str) -> list[tuple[int, dict[str, float]]]:
    points: dict[int, dict[str, float]] = {}
    for line in storage.json_lines(url):
        try:
            point = EvalPoint.model_validate(line.row)
        except ValidationError:
            continue  # a line cut by a kill; the evaluation is repeated on resume
        numbers = {key: float(value) for key, value in point.eval.items() if _is_number(value)}
        points[point.step] = points.get(point.step, {}) | numbers
    return sorted(points.items())


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _read(url: str, model: type[Model]) -> Model:
    content = storage.json_object(storage.read_bytes(url))
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        found = f"{place}: {first['msg']}" if content is not None else "not JSON, or no object"
    raise DataError(url, found, "the file as clipmill writes it", hint="run the command that writes it again") from None
