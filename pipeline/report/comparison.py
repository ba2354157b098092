"""comparison.html: two runs side by side, one self-contained file like the report. It only reads files."""

from markupsafe import Markup

from pipeline import storage
from pipeline.report.compared import comparison as sides
from pipeline.report.compared.pairs import Shared, shared
from pipeline.report.compared.settings import differing, recipe_of
from pipeline.report.curated.funnel import build_funnel
from pipeline.report.curated.thumbs import Album
from pipeline.report.data import RunData, load_run
from pipeline.report.figures import plain
from pipeline.report.found import Outputs
from pipeline.report.limits import Limits
from pipeline.report.render import Writer, css, fitted, writer


def write_comparison(out: str, a: Outputs, b: Outputs) -> str:
    """Writes the comparison of what two runs have left to `out` (a path or fsspec URL), atomically, and returns `out`.

    DataError where one of them has left nothing, or a file of it cannot be read.
    """
    runs = tuple(load_run(**each._asdict()) for each in (a, b))
    settings = differing(recipe_of(a.folders), recipe_of(b.folders))
    curated = [run.curated.folder for run in runs if run.curated]
    pairs = shared(curated[0], curated[1]) if len(curated) == 2 else None
    told = [(plain(each.path, 200), _short(each.before), _short(each.now)) for each in settings]
    recipes = all(recipe_of(each.folders) for each in (a, b))
    page = {"a": runs[0], "b": runs[1], "settings": told, "has_recipes": recipes, "css": Markup(css())}
    page |= {"places": [[storage.shown(at) for at in each.folders] for each in (a, b)]}
    storage.publish_bytes(out, fitted(lambda album, limits: _page(page, runs[0], runs[1], pairs, album, limits)))
    return out


def _page(
    page: dict[str, object], a: RunData, b: RunData, pairs: Shared | None, album: Album, limits: Limits
) -> Writer:
    page = {**page, "most": limits, "pairs": pairs, "stages": [], "only": [], "scores": [], "concept_chart": None}
    if a.curated and b.curated:
        one, two = a.curated.summary, b.curated.summary
        funnels = build_funnel(a.curated), build_funnel(b.curated)
        concepts = sides.concept_chart(one.concepts, two.concepts)
        page |= {
            "funnels": funnels,
            "stages": sides.stages_of(*funnels),
            "tables": [sides.reasons_of(*funnels, limits), *sides.word_tables(one, two, limits)],
            "scores": sides.score_charts(one, two, limits),
            "concept_chart": concepts,
            "concept_tables": sides.concept_rows(one.concepts, two.concepts, limits) if concepts else [],
            "inputs": sides.input_rows(one, two, limits),
        }
    if pairs is not None:
        page["only"] = [sides.only_in(each, album, limits) for each in (pairs.only_a, pairs.only_b)]
    page["curves"] = sides.curve_charts(a.trained, b.trained)
    page["results"] = sides.result_rows(a.evaluated, b.evaluated, limits)
    return writer("comparison.html.j2", page)


def _short(value: object) -> str:
    return plain(value if isinstance(value, str) else repr(value), 300)
