"""Distrusts all captions of a site whose captions are boilerplate too often: who writes "Picture 34" under one image
does not describe the next one."""

from typing import ClassVar, Literal
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from curation.methods.boilerplate import Boilerplate, boilerplate
from curation.methods.reasons import sift
from curation.stage import Global, Verdicts
from curation.table.arrow import whole
from curation.table.captions import ROW, explode
from pipeline.draws import hashed_u64


class SiteBoilerplate(Global):
    """Counts the pairs of each site, and those with a caption that `kinds` of curation/methods/boilerplate.py refuse.

    A site is the host of the page a caption was read from, or of the image when there is no page. Captions of sites
    with at least `min_pairs` pairs, of which more than `max_share` are boilerplate, go; a pair goes with its last
    caption. It has to stand before caption_rules, which takes the evidence away. File names and navigation are no
    evidence by default: good sites have them too.

    Reason: site; detail: the site.
    """

    kind: Literal["site_boilerplate"] = "site_boilerplate"
    reads: ClassVar[tuple[str, ...]] = ("url", "captions.text", "captions.page_url")

    max_share: float = Field(0.2, ge=0, le=1)
    min_pairs: int = Field(100, ge=1, description="smaller sites are left alone: a share of few pairs says little")
    kinds: tuple[Boilerplate, ...] = ("camera_name", "number", "hex", "generic", "click", "social", "advert")

    def survey(self, pairs: pa.Table, seed: int) -> pa.Table:
        """One note per (pair, site): group, uid, site, bad (any caption of the pair from there is boilerplate)."""
        flat = explode(pairs)
        uids = whole(pairs.column("uid")).take(flat.column(ROW))
        found = [boilerplate(text, self.kinds) is not None for text in flat.column("text").to_pylist()]
        bad = pa.array(found, pa.bool_())
        notes = pa.table({"uid": uids, "site": sites(pairs, flat), "bad": bad})
        notes = notes.group_by(["uid", "site"]).aggregate([("bad", "max")]).rename_columns(["uid", "site", "bad"])
        return notes.append_column("group", pa.array(hashed_u64(notes.column("site").to_pylist())))

    def settle(self, notes: pa.Table) -> pa.Table:
        """The sites that go, each with its share."""
        counted = notes.append_column("one", pc.cast(notes.column("bad"), pa.int64()))
        counted = counted.group_by("site").aggregate([("one", "sum"), ("one", "count")])
        share = pc.divide(pc.cast(counted.column("one_sum"), pa.float64()), counted.column("one_count"))
        gone = pc.and_(pc.greater(share, self.max_share), pc.greater_equal(counted.column("one_count"), self.min_pairs))
        return pa.table({"site": counted.column("site"), "share": share}).filter(gone)

    def judge(self, pairs: pa.Table, folded: pa.Table, seed: int) -> Verdicts:
        flat = explode(pairs)
        site = sites(pairs, flat)
        gone = pc.is_in(site, value_set=whole(folded.column("site")))
        reasons = pc.if_else(gone, pa.scalar("site"), pa.scalar(None, pa.string()))
        return sift(flat, whole(reasons), pairs.num_rows, site)


def sites(pairs: pa.Table, flat: pa.Table) -> pa.Array:
    """The site of each caption of `flat`, which is exploded from `pairs`."""
    images = whole(pairs.column("url")).take(flat.column(ROW))
    pages = whole(flat.column("page_url"))
    has_page = pc.fill_null(pc.not_equal(pages, ""), False)
    encoded = whole(pc.if_else(has_page, pages, images)).dictionary_encode()
    hosts = pa.array([urlsplit(url).hostname or "" for url in encoded.dictionary.to_pylist()], pa.string())
    return hosts.take(encoded.indices) if len(encoded) else pa.array(np.array([], object), pa.string())
