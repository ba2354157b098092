"""What lies in a folder: the outputs of a run, in it or in the folders in it."""

from typing import NamedTuple

from pipeline import storage
from pipeline.errors import DataError
from pipeline.outputs import DRY_RUN, EVAL, METRICS, SUMMARY
from pipeline.report.compared.settings import recipe_of


class Outputs(NamedTuple):
    """The output folders of one run, as `load_run` takes them; None for what it has not."""

    name: str
    curate_output: str | None = None
    train_output: str | None = None
    eval_output: str | None = None

    @property
    def folders(self) -> list[str]:
        return [each for each in self[1:] if each]


def outputs_in(folder: str) -> Outputs:
    """Of a folder (a path or fsspec URL) that holds outputs, or is one. DataError when nothing has run there."""
    near = [folder]
    if storage.can_list(folder):
        near += [storage.join(folder, name) for name in storage.list_folders(folder) if not name.startswith(("_", "."))]
    marks = ((SUMMARY, DRY_RUN), (METRICS,), (EVAL,))
    places = [
        next((at for mark in each for at in near if storage.exists(storage.join(at, mark))), None) for each in marks
    ]
    if not any(places):
        expected = f"a folder with {SUMMARY}, {METRICS} or {EVAL}, or with such folders in it"
        raise DataError(storage.shown(folder), "nothing that a run has left", expected, "give the output of a run")
    found = Outputs(storage.basename(folder.rstrip("/")), *places)
    name = recipe_of(found.folders).get("name")
    return found._replace(name=name) if isinstance(name, str) and name else found
