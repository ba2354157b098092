"""Distrusts the captions of parts of sites that are boilerplate too often (who writes "Picture 34" under one image does
not describe the next one), and single captions that stand on most of a site."""

from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from curation.methods.boilerplate import Boilerplate, boilerplate
from curation.methods.reasons import sift
from curation.methods.site_shares import section_shares, shrunken
from curation.stage import GROUP, Context, Group, Told, Verdicts
from curation.table.arrow import whole
from curation.table.captions import ROW, explode
from pipeline.draws import hashed_u64

# One row of what a site, or the crawl, is told as: of the four kinds below each fills its own columns.
_TOLD = pa.schema(
    [
        (GROUP, pa.uint64()),
        ("site", pa.string()),  # null: of the crawl
        ("section", pa.string()),  # null: the row is of a caption, or of the crawl
        ("text", pa.uint64()),  # of a caption that stands on most of the site; else null
        ("bad", pa.int64()),  # boilerplate pairs of a section, or of the crawl
        ("pairs", pa.int64()),
    ]
)
_CRAWL = 0  # the group in which all buckets add up
SAMPLE = 65_536
"""A site of more pairs is judged by so many of them, those whose uids have the smallest hashes."""


class SiteBoilerplate(Group):
    """A site is the host of the page a caption was read from, or of the image when there is no page; its sections are
    the first folders of the paths that hold at least `min_pairs` pairs, and the rest. Sites of fewer pairs are left
    alone. It has to stand before caption_rules, which takes the evidence away.

    site      captions of a section go when more than `max_share` of its pairs are boilerplate of the named `kinds`. The
              share is the believed one: the site's is drawn to the mean of the crawl (at most max_share / 2) as if
              `prior_pairs` more had been seen, each section's to the site's, the more the less the sections of the site
              differ. Camera and file names and navigation are no evidence by default: good sites have them too.
    template  a caption goes where it stands under more than `max_caption_share` of the site's pairs, or on more than
              that of its pages (of at least `min_pairs`), as if `prior_pairs` more without it had been seen.

    Both counts are of pairs, however many captions they have; of a site of more than 65,536 pairs, of so many of them.
    A pair goes with its last caption.

    Reasons: site, template; detail: the host, with the section behind it where it is not the rest.
    """

    kind: Literal["site_boilerplate"] = "site_boilerplate"
    reads: ClassVar[tuple[str, ...]] = ("url", "captions.text", "captions.page_url")
    version: ClassVar[int] = 2  # 2: by section, believed shares, templates
    after_first: ClassVar[tuple[str, ...]] = ("max_share", "max_caption_share", "min_pairs", "prior_pairs")

    max_share: float = Field(0.2, ge=0, le=1)
    max_caption_share: float = Field(0.5, ge=0, le=1)
    min_pairs: int = Field(100, ge=1, description="smaller sites are left alone: a share of few pairs says little")
    prior_pairs: float = Field(50, ge=0, description="how many pairs of the crawl's mean share a site is given")
    kinds: tuple[Boilerplate, ...] = ("number", "hex", "generic", "click", "social", "advert")

    def survey(self, pairs: pa.Table, told: Told, ctx: Context) -> pa.Table:
        """One note per caption: group, uid as `of`, site, section, page, text, bad (it is boilerplate); and one with
        the sums of this bucket, for the mean of the crawl."""
        flat = explode(pairs)
        uids = whole(pairs.column("uid")).take(flat.column(ROW))
        texts = whole(flat.column("text")).dictionary_encode()
        found = [boilerplate(text, self.kinds) is not None for text in texts.dictionary.to_pylist()]
        site, section, page = places(pairs, flat)
        notes = {"of": uids, "site": site, "section": section, "page": page, "text": hashed_texts(flat)}
        bad = pc.cast(pa.array(found, pa.bool_()).take(texts.indices), pa.int64())
        encoded = site.dictionary_encode()
        groups = hashed_u64(encoded.dictionary.to_pylist()) | np.uint64(1)  # none is that of the crawl
        one = pa.array(np.ones(len(flat), np.int64))
        noted = pa.table(notes | {"bad": bad, "pairs": one, GROUP: pa.array(groups).take(encoded.indices)})
        by_pair = _by_pair(noted)
        sums = {"bad": [pc.sum(by_pair.column("bad_max")).as_py() or 0], "pairs": [by_pair.num_rows], GROUP: [_CRAWL]}
        crawl = pa.table([pa.array(sums.get(f.name, [None]), f.type) for f in noted.schema], schema=noted.schema)
        return pa.concat_tables([noted, crawl])

    def combine(self, notes: pa.Table, step: str) -> pa.Table:
        """The crawl as one row; of each site the notes of at most SAMPLE pairs."""
        is_crawl = pc.equal(notes.column(GROUP), pa.scalar(_CRAWL, pa.uint64()))
        crawl, sites = notes.filter(is_crawl), notes.filter(pc.invert(is_crawl))
        if crawl.num_rows > 1:
            sums = {name: [pc.sum(crawl.column(name)).as_py()] for name in ("bad", "pairs")} | {GROUP: [_CRAWL]}
            crawl = pa.table([pa.array(sums.get(f.name, [None]), f.type) for f in crawl.schema], schema=crawl.schema)
        return pa.concat_tables([crawl, sampled(sites, SAMPLE)])

    def settle(self, notes: pa.Table, step: str, ctx: Context) -> pa.Table:
        """Of the crawl its sums; of each site that may have to lose something its sections and templates."""
        notes = self.combine(notes, step)
        is_crawl = pc.equal(notes.column(GROUP), pa.scalar(_CRAWL, pa.uint64()))
        rows: list[tuple[Any, ...]]
        rows = [(_CRAWL, None, None, None, row["bad"], row["pairs"]) for row in notes.filter(is_crawl).to_pylist()]
        notes = notes.filter(pc.invert(is_crawl))
        counted = _by_pair(notes).group_by([GROUP, "site", "section"]).aggregate([("bad_max", "sum"), ("uids", "sum")])
        groups = dict(zip(counted.column("site").to_pylist(), counted.column(GROUP).to_pylist(), strict=True))
        names = ("site", "section", "bad_max_sum", "uids_sum")
        sections = list(zip(*(counted.column(name).to_pylist() for name in names), strict=True))
        for site, found in _by_site(sections).items():
            pooled = _pooled(found, self.min_pairs)
            bad, num = (sum(column) for column in zip(*pooled.values(), strict=True))
            if num >= self.min_pairs and any(b > self.max_share * n for b, n in [*pooled.values(), (bad, num)]):
                rows += [(groups[site], site, section, None, b, n) for section, (b, n) in sorted(pooled.items())]
        rows += [(groups[site], site, None, text, 0, 0) for site, text in self._templates(notes)]
        columns = list(zip(*rows, strict=True)) or [()] * len(_TOLD)
        return pa.table([pa.array(c, f.type) for c, f in zip(columns, _TOLD, strict=True)], schema=_TOLD)

    def _templates(self, notes: pa.Table) -> list[tuple[str, int]]:
        """(site, text) of each caption that stands on most of a site, by its pairs or by its pages."""
        found: set[tuple[str, int]] = set()
        for unit in ("of", "page"):
            of_site = _distinct(notes, ["site"], unit)
            of_text = _distinct(notes, ["site", "text"], unit).join(of_site, "site", right_suffix="_of_site")
            num = of_text.column("num_of_site").to_numpy()
            share = shrunken(of_text.column("num").to_numpy(), num, 0.0, self.prior_pairs)
            gone = of_text.filter(pa.array((num >= self.min_pairs) & (share > self.max_caption_share)))
            found |= set(zip(gone.column("site").to_pylist(), gone.column("text").to_pylist(), strict=True))
        return sorted(found)

    def judge(self, pairs: pa.Table, told: Told, ctx: Context) -> Verdicts:
        flat = explode(pairs)
        site, section, _ = (column.to_pylist() for column in places(pairs, flat))
        texts = hashed_texts(flat).to_pylist()
        rows = told.of("compare", _TOLD).to_pylist()
        templates = {(row["site"], row["text"]) for row in rows if row["text"] is not None}
        sections = self._judged(rows)
        reasons: list[str | None] = []
        details: list[str] = []
        for here, part, text in zip(site, section, texts, strict=True):
            own = sections.get((here, part))
            gone = sections.get((here, ""), False) if own is None else own
            reasons.append("site" if gone else "template" if (here, text) in templates else None)
            details.append(here + part if gone and own else here)
        return sift(flat, pa.array(reasons, pa.string()), pairs.num_rows, pa.array(details, pa.string()))

    def _judged(self, rows: list[dict[str, Any]]) -> dict[tuple[str, str], bool]:
        """(site, section) -> whether its captions go; a section of few pairs goes with the rest, section ""."""
        bad, num = (sum(row[name] for row in rows if row["site"] is None) for name in ("bad", "pairs"))
        mean = min(bad / max(num, 1), self.max_share / 2)
        judged: dict[tuple[str, str], bool] = {}
        sections = [(r["site"], r["section"], r["bad"], r["pairs"]) for r in rows if r["section"] is not None]
        for site, found in _by_site(sections).items():
            names = sorted(found)
            counts = np.array([found[name] for name in names], np.float64)
            shares = section_shares(counts[:, 0], counts[:, 1], mean, self.prior_pairs)
            judged |= {(site, name): bool(share > self.max_share) for name, share in zip(names, shares, strict=True)}
        return judged


def _by_pair(notes: pa.Table) -> pa.Table:
    """A row for each (site, section, pair) with bad_max (one of its captions there is boilerplate) and uids (1)."""
    found = notes.group_by([GROUP, "site", "section", "of"]).aggregate([("bad", "max")])
    return found.append_column("uids", pa.array(np.ones(found.num_rows, np.int64)))


def sampled(notes: pa.Table, most: int) -> pa.Table:
    """Of each site the notes of its `most` pairs with the smallest hashes of their uids: a choice that no cut changes,
    and of which parts may be made one by one."""
    if notes.num_rows <= most:  # no site can have more
        return notes
    sites, of = whole(notes.column("site")).dictionary_encode().indices.to_numpy(), whole(notes.column("of"))
    pairs = of.dictionary_encode()
    place = hashed_u64(pairs.dictionary.to_pylist())[pairs.indices.to_numpy()]
    order = np.lexsort([place, sites])
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(sites[order]) != 0) | (np.diff(place[order]) != 0)
    number = np.cumsum(new)
    first = np.searchsorted(sites[order], sites[order])
    stays = number - number[first] < most
    return notes.take(pa.array(np.sort(order[stays])))


def _distinct(notes: pa.Table, by: list[str], unit: str) -> pa.Table:
    """Per `by`, in `num`, how many different values of `unit`."""
    counted = notes.group_by([*by, unit]).aggregate([]).group_by(by).aggregate([(unit, "count")])
    return counted.rename_columns([*by, "num"])


def _by_site(rows: list[tuple[str, str, int, int]]) -> dict[str, dict[str, tuple[int, int]]]:
    """From (site, section, bad, pairs): site -> section -> (bad, pairs)."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for site, section, bad, num in rows:
        found.setdefault(site, {})[section] = (bad, num)
    return found


def _pooled(sections: dict[str, tuple[int, int]], min_pairs: int) -> dict[str, tuple[int, int]]:
    """The sections of a site, those of few pairs together as section ""."""
    pooled: dict[str, tuple[int, int]] = {}
    for name, (bad, num) in sections.items():
        key = name if num >= min_pairs else ""
        before = pooled.get(key, (0, 0))
        pooled[key] = (before[0] + bad, before[1] + num)
    return pooled


def hashed_texts(flat: pa.Table) -> pa.Array:
    """A number for each caption, equal for texts that differ only in case and spaces."""
    texts = whole(flat.column("text")).dictionary_encode()
    folded = [" ".join(text.casefold().split()) for text in texts.dictionary.to_pylist()]
    return pa.array(hashed_u64(folded), pa.uint64()).take(texts.indices)


def places(pairs: pa.Table, flat: pa.Table) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Of each caption of `flat`, which is exploded from `pairs`: the host it stands on, the first folder of the path
    ("/photos", or "" for a page at the top), and a number for the page."""
    images = whole(pairs.column("url")).take(flat.column(ROW))
    pages = whole(flat.column("page_url"))
    has_page = pc.fill_null(pc.not_equal(pages, ""), False)
    encoded = whole(pc.if_else(has_page, pages, images)).dictionary_encode()
    urls = encoded.dictionary.to_pylist()
    split = [urlsplit(url) for url in urls]
    hosts = pa.array([each.hostname or "" for each in split], pa.string())
    folders = [each.path.split("/")[1:-1][:1] for each in split]
    sections = pa.array([f"/{folder[0]}" if folder and folder[0] else "" for folder in folders], pa.string())
    numbers = pa.array(hashed_u64(urls), pa.uint64())
    return hosts.take(encoded.indices), sections.take(encoded.indices), numbers.take(encoded.indices)
