"""A curation on a cluster before it begins, by the core's own table of costs (`plan.py`)."""

from curation.runner.costs.counted import Counted, counted
from curation.runner.costs.plan import plan
from curation.runner.inputs.naming import listed
from curation.settings import CurateSettings
from curation.stage import IMAGE, Generate, Measure
from pipeline.errors import RecipeError
from pipeline.plan.devices import GIB, Cluster
from pipeline.plan.found import CurationPlan, Note
from pipeline.plan.words import gib_text

PART_PAIRS = 62_500
"""Pairs of an input file where there is none yet (benchmarks/made_up/inputs.py)."""
CORE_GIB = 4.0
"""Memory of a node for each of its cores: assumed."""


def foretell(settings: CurateSettings, cluster: Cluster, pairs: int | None = None) -> CurationPlan | Note:
    """`pairs`: of the crawl, in place of what its inputs say; then they need not be there. A note where nobody says."""
    try:
        inputs = listed(settings)
    except RecipeError:
        if pairs is None:
            raise
        inputs = []
    found = Counted(pairs, "as given") if pairs is not None else counted(settings, inputs)
    if found is None:
        return Note("note", "curation is not foretold: its inputs do not say how many pairs they have", "--pairs 1e8")
    parts = len(inputs) or max(1, found.pairs // PART_PAIRS)
    whole = plan(settings.stages, found.pairs, parts)
    notes = []
    if whole.memory > CORE_GIB * GIB:
        words = f"the largest task of curation holds {gib_text(whole.memory)}, more than {CORE_GIB:g} GiB a core"
        notes.append(Note("slow", words, "curate.ray.num_cpus=..., fewer than the node has"))
    models = [stage.kind for stage in settings.stages if isinstance(stage, Measure) and _looks(stage)]
    if models:
        words = (
            f"not counted in the hours of curation: what {', '.join(dict.fromkeys(models))} take for a picture or text"
        )
        notes.append(Note("note", words))
    if settings.fetching is not None:
        notes.append(Note("note", "not counted in the hours of curation: the download"))
    return CurationPlan(
        pairs=found.pairs,
        counted=found.words,
        parts=parts,
        buckets=whole.buckets,
        cost={**whole.cost._asdict(), "reads": whole.cost.reads},
        bytes=whole.bytes,
        memory=whole.memory,
        hours=whole.hours(cluster.nodes, cluster.cores),
        notes=tuple(notes),
    )


def _looks(stage: Measure) -> bool:
    return IMAGE in stage.reads or isinstance(stage, Generate)
