"""Everything that a run does before its first request to a model, and what it would ask then."""

from typing import Any

from curation.books.ledger import Counts
from curation.job import Job, Segment
from curation.runner.closing import foretelling
from curation.runner.driver import Driver, Place, curate, leave
from curation.settings import CurateSettings
from curation.stage import Generate
from pipeline.contract.manifest import Manifest
from pipeline.errors import Stopped


class _Told(Stopped):
    """Ends the run: what is done by then is kept for the one that asks."""

    def __init__(self, stages: list[dict[str, Any]]) -> None:
        super().__init__("curate", "all is told", "", "")
        self.stages = stages


class _DryRun(Driver):
    """Stops where somebody would have to be asked, at the latest behind the last stage that generates."""

    def __init__(self, job: Job, place: Place, quiet: bool) -> None:
        super().__init__(job, place, quiet)
        self._found: list[dict[str, Any]] = []

    def _segment(self, here: Segment) -> list[Counts]:
        generating = [at for at, stage in enumerate(self.job.settings.stages) if isinstance(stage, Generate)]
        if here.opener in generating:
            before = self.job.segments[here.index - 1]
            self._found.append(foretelling.now(self.job, before, self._told[before.index], self._do))
            if self._found[-1]["requests"]:
                rest = [at for at in generating if at > here.opener]
                self._found += [foretelling.later(self.job, before, at, self._do) for at in rest]
                self._end()
        if here.is_last or not any(at >= (here.closer or 0) for at in generating):
            self._end()
        return super()._segment(here)

    def _end(self) -> None:
        leave(self.job, self.job)
        raise _Told(self._found)


def dry_run(settings: CurateSettings, *, name: str, seed: int, quiet: bool = False) -> list[dict[str, Any]]:
    """What each stage that generates would ask, in the order of the recipe (closing/foretelling.py has the fields);
    none where the dataset is finished. Raises as `curate` does."""
    settings = settings.model_copy(update={"fresh": False})  # nothing is made anew for it
    try:
        manifest: Manifest | None = curate(settings, name=name, seed=seed, quiet=quiet, driver=_DryRun)
    except _Told as told:
        return told.stages
    assert manifest is not None
    return []
