"""Puts the page together and writes it: one file, no network, no script, the same bytes for the same inputs."""

import functools
from collections.abc import Callable
from importlib import resources

import jinja2
from markupsafe import Markup

from pipeline import storage
from pipeline.report import figures
from pipeline.report.asked import ESTIMATED, prompts_of
from pipeline.report.curated import answers, curation, evidence, origin, spent
from pipeline.report.curated.funnel import Funnel, build_funnel
from pipeline.report.curated.gallery import build_gallery
from pipeline.report.curated.thumbs import Album
from pipeline.report.data import RunData, load_run
from pipeline.report.limits import MAX_BYTES, MAX_WORDS, Limits
from pipeline.report.schemas import Summary
from pipeline.report.trained import training

TEMPLATE = "report.html.j2"
Writer = Callable[[int], bytes]
"""How many pictures are left off -> the page."""


def write_report(
    out: str, *, curate_output: str | None, train_output: str | None, eval_output: str | None, name: str
) -> str:
    """Writes the report of whatever has run so far to `out` (a path or fsspec URL), atomically, and returns `out`.

    Each `*_output` is the folder of that section, or None; what is not there yet is shown as not run. DataError if
    nothing is there at all, or if a file cannot be read.
    """
    run = load_run(curate_output=curate_output, train_output=train_output, eval_output=eval_output, name=name)
    storage.publish_bytes(out, fitted(lambda album, limits: _report(run, album, limits)))
    return out


def fitted(write: Callable[[Album, Limits], Writer]) -> bytes:
    """The page in at most MAX_BYTES: as many pictures as fit beside its words; fewer words where these are too many.

    `write` prepares everything, and returns what makes the page once pictures are given out and counted.
    """
    limits = Limits()
    while True:
        album = Album()
        make = write(album, limits)
        words = len(make(album.settle(0)))
        if words <= MAX_WORDS:
            break
        assert limits != limits.fewer(), f"a report of {words} bytes without pictures"
        limits = limits.fewer()
    page = make(album.settle(MAX_BYTES - words))
    assert len(page) <= MAX_BYTES, f"report of {len(page)} bytes"
    return page


def _report(run: RunData, album: Album, limits: Limits) -> Writer:
    page: dict[str, object] = {"run": run, "most": limits, "css": Markup(css())}
    page["asked"] = prompts_of(run.asked, album, limits) if run.asked else []
    funnel = None
    if run.curated:
        funnel = build_funnel(run.curated)
        page |= _curation_parts(run.curated.summary, funnel, album, limits)
    if run.trained:
        page["training_charts"] = training.training_charts(run.trained)
        page["eval_charts"] = training.eval_charts(run.trained, run.evaluated)
    if run.evaluated:
        page["eval_groups"] = training.eval_groups(run.evaluated)
    page["verdict"], page["facts"] = _verdict(run, funnel), _facts(run)
    return writer(TEMPLATE, page)


def writer(template: str, page: dict[str, object]) -> Writer:
    """What makes the page of a template, as bytes; a caption may hold half a surrogate pair."""
    made = environment().get_template(template)
    return lambda left_off: made.render(page, left_off=left_off).encode("utf-8", "replace")


def _curation_parts(summary: Summary, funnel: Funnel, album: Album, limits: Limits) -> dict[str, object]:
    concepts = summary.concepts
    told, more_told = evidence.told_by_stages(summary, album, limits)
    return {
        "summary": summary,
        "funnel": funnel,
        "gallery": build_gallery(summary, funnel, album, limits),
        "told": told,
        "more_told": more_told,
        "ways": answers.ways(summary, album, limits),
        "spent": spent.outlays(summary, limits),
        "concepts": concepts,
        "rank_curve": curation.rank_curve(concepts) if concepts else None,
        "concept_histogram": curation.concept_histogram(concepts) if concepts else None,
        "entry_bars": curation.entry_bars(concepts, limits.entries) if concepts else [],
        "histograms": curation.histograms(summary),
        "languages": curation.bars(summary.languages, limits.bars),
        "caption_sources": curation.bars(summary.caption_sources, limits.bars),
        "top_captions": curation.caption_bars(summary.top_captions_before, summary.top_captions_after),
        "inputs": curation.inputs(summary, limits.inputs),
        "sources": origin.sources(summary, limits),
        "download": origin.downloaded(summary.download, limits) if summary.download else None,
    }


def _verdict(run: RunData, funnel: Funnel | None) -> list[Markup]:
    """The first line of the page, clause by clause."""
    count, number, said = figures.count, figures.number, figures.said
    clauses = []
    if funnel:
        clauses.append(Markup("{} pairs in, <b>{} kept</b>").format(count(funnel.pairs_in), count(funnel.pairs_kept)))
    if run.curated and run.curated.manifest:
        shards = len(run.curated.manifest.shards)
        clauses[-1] += Markup(" in {} {}").format(count(shards), "shard" if shards == 1 else "shards")
    if run.trained and "loss" in run.trained.steps.first:
        first, last = run.trained.steps.first["loss"], run.trained.steps.last["loss"]
        clauses.append(Markup("<i>Loss</i> {} → <b>{}</b>").format(number(first), number(last)))
    if run.evaluated and (row := training.headline(run.evaluated)):
        before = Markup("{} → ").format(number(row.before)) if row.before is not None else ""
        label = said(row.label[:1].upper() + row.label[1:])
        result = Markup("<i>{} on {}</i> {}<b>{}</b>")
        clauses.append(result.format(label, said(row.set_name), before, number(row.after)))
    return clauses


def _facts(run: RunData) -> list[tuple[str, Markup]]:
    """The small figures under the verdict."""
    facts = []
    if run.curated:
        summary, manifest = run.curated.summary, run.curated.manifest
        facts.append(("kept", figures.share(summary.pairs_kept, summary.pairs_in)))
        facts.append(("occurrences on pages", figures.count(summary.occurrences)))
        facts.append(("images stored", figures.count(summary.images_stored)))
        if manifest:
            facts.append(("in shards", figures.size(sum(shard.bytes for shard in manifest.shards))))
    if run.trained:
        steps = run.trained.steps
        facts.append(("steps", figures.count(len(steps))))
        if "samples" in steps.last:
            facts.append(("pairs trained on", figures.count(int(steps.last["samples"]))))
    return facts


def css() -> str:
    return resources.files("pipeline.report").joinpath("templates/report.css").read_text(encoding="utf-8")


def ready() -> None:
    """Loads what a page is written with, for who has the time: a tenth of a second of the end of a run."""
    environment().get_template(TEMPLATE)


@functools.cache
def environment() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "count": figures.count,
        "number": figures.number,
        "figure": figures.figure,
        "size": figures.size,
        "said": figures.said,
        "plain": figures.plain,
        "place": figures.place,
        "lines": figures.lines,
        "seen": figures.seen,
    }
    found.globals |= {"share": figures.share, "words_of": figures.words_of}
    found.globals |= {"money_text": spent.money_text, "spent_text": spent.spent_text, "estimated": ESTIMATED}
    return found
