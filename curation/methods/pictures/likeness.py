"""Who stays of pairs that are alike, decided by messages between them: no pair has to know more than its neighbours.

Each pair is named by its rank (duplicates.py beside this): the smaller the better. It is told its neighbours once,
LINKS (uid | near: the rank of one that is alike to it); then in rounds what they say, SAID (uid | near | leads). A
bucket computes from what all rounds have told it what its pairs say next; when nobody says more, all is decided.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.stage import GROUP, NO_NOTES
from curation.table.arrow import whole
from curation.table.uids import DIGITS
from pipeline.draws import hashed_u64

LINKS = pa.schema([("uid", pa.string()), ("near", pa.string())])
SAID = pa.schema([("uid", pa.string()), ("near", pa.string()), ("leads", pa.bool_())])
_NOT_YET, _FOLLOWS, _LEADS = 0, 1, 2


def messages(to: pa.Array, near: pa.Array, leads: pa.Array | None = None) -> pa.Table:
    """Notes to the pairs of the ranks `to`, from or about those of the ranks `near`."""
    if not len(to):
        return NO_NOTES.empty_table()
    uids = pc.utf8_slice_codeunits(to, -DIGITS)
    leads = pa.nulls(len(to), pa.bool_()) if leads is None else leads
    table = pa.table({"uid": uids, "near": near, "leads": leads}).group_by(["uid", "near", "leads"]).aggregate([])
    encoded = whole(table.column("uid")).dictionary_encode()
    groups = hashed_u64(encoded.dictionary.to_pylist())[encoded.indices.to_numpy()]
    return table.append_column(GROUP, pa.array(groups))


def between(notes: pa.Table) -> pa.Table:
    """Notes (rank | other | ...) of what the pair of one rank says of another one, where notes of the two meet."""
    two = whole(notes.column("rank")), whole(notes.column("other"))
    names = pc.binary_join_element_wise(pc.min_element_wise(*two), pc.max_element_wise(*two), " ")
    return notes.append_column(GROUP, pa.array(hashed_u64(names.to_pylist())))


def answers(notes: pa.Table) -> pa.Array:
    """Of notes that met: the number of the other's of the two, null where the other has none."""
    rank, other = whole(notes.column("rank")), whole(notes.column("other"))
    mine, theirs = (pc.binary_join_element_wise(*each, " ") for each in ((rank, other), (other, rank)))
    return pc.index_in(mine, theirs)


class Neighbours(NamedTuple):
    """Links of the pairs of one bucket, each once, by pair.

    rank  of the pairs that have a link, string [pair]
    own   number of the pair, int64 [link], rising
    near  rank of the other one, string [link]
    """

    rank: pa.Array
    own: np.ndarray
    near: pa.Array

    @classmethod
    def of(cls, ranks: pa.Array, links: pa.Table) -> "Neighbours":
        """`ranks`: of all pairs of the bucket that can have links."""
        links = links.group_by(["uid", "near"]).aggregate([]).sort_by([("uid", "ascending"), ("near", "ascending")])
        uids = whole(links.column("uid"))
        at = pc.index_in(uids, pc.utf8_slice_codeunits(ranks, -DIGITS))
        links, at = links.filter(pc.is_valid(at)), pc.drop_null(at)
        used, own = np.unique(at.to_numpy(), return_inverse=True)
        order = np.argsort(own, kind="stable")
        return cls(ranks.take(pa.array(used)), own[order], whole(links.column("near")).take(pa.array(order)))


def near_survivors(links: Neighbours, rounds: list[pa.Table]) -> pa.Array:
    """The rank of the pair that each of `links.rank` goes for, its own if it stays.

    Going through all pairs from the best down, each that is still there takes away those alike to itself: so a pair
    stays when no better neighbour stays, and else goes for the best of those that do.
    """
    status = _heard(links, rounds)
    near, own_rank = links.near, links.rank.take(pa.array(links.own))
    leads = (status == _LEADS) & _better(links)
    best = pc.if_else(pa.array(leads), near, own_rank)
    found = pa.table({"own": links.own, "best": best}).group_by("own").aggregate([("best", "min")]).sort_by("own")
    return whole(found.column("best_min"))


def decisions(links: Neighbours, rounds: list[pa.Table]) -> pa.Table:
    """What the pairs that are decided since the last round tell their worse neighbours."""
    now = _decided(links, _heard(links, rounds))
    before = _decided(links, _heard(links, rounds[:-1])) if rounds else np.zeros_like(now)
    fresh = (now != _NOT_YET) & (before == _NOT_YET)
    tells = fresh[links.own] & ~_better(links)
    rows = pa.array(np.flatnonzero(tells))
    own = links.own[tells]
    leads = pa.array(now[own] == _LEADS, pa.bool_())
    return messages(links.near.take(rows), links.rank.take(pa.array(own)), leads)


def _better(links: Neighbours) -> np.ndarray:
    """Whether the other one of each link is the better one."""
    return pc.less(links.near, links.rank.take(pa.array(links.own))).to_numpy(zero_copy_only=False)


def _heard(links: Neighbours, rounds: list[pa.Table]) -> np.ndarray:
    """What is known of the other one of each link."""
    said = pa.concat_tables([SAID.empty_table(), *rounds])
    uids = pc.utf8_slice_codeunits(links.rank, -DIGITS).take(pa.array(links.own))
    here = pc.binary_join_element_wise(uids, links.near, "")
    there = pc.binary_join_element_wise(whole(said.column("uid")), whole(said.column("near")), "")
    leads = said.column("leads").take(pc.index_in(here, there))
    return pc.fill_null(pc.if_else(leads, _LEADS, _FOLLOWS), _NOT_YET).to_numpy()


def _decided(links: Neighbours, status: np.ndarray) -> np.ndarray:
    """Of each pair whether it leads, follows, or does not know yet."""
    num, better = len(links.rank), _better(links)
    found = np.full(num, _LEADS)
    found[links.own[better & (status == _NOT_YET)]] = _NOT_YET
    found[links.own[better & (status == _LEADS)]] = _FOLLOWS
    return found


def component_heads(links: Neighbours, rounds: list[pa.Table]) -> pa.Array:
    """The best of all that hang together with each of `links.rank` by likeness."""
    own, members = _members(links, rounds)
    best = pa.table({"own": own, "near": members}).group_by("own").aggregate([("near", "min")]).sort_by("own")
    return pc.min_element_wise(whole(best.column("near_min")), links.rank)


def introductions(links: Neighbours, rounds: list[pa.Table]) -> pa.Table:
    """Every pair that has come to know more makes those it knows known to the best of them, and the best to all of
    them (hash-to-min; Rastogi et al., 2013): rounds grow with the logarithm of a chain's length."""
    own, members = _members(links, rounds)
    if rounds:
        known, old = _members(links, rounds[:-1])
        grown = np.bincount(own, minlength=len(links.rank)) > np.bincount(known, minlength=len(links.rank))
    else:
        grown = np.ones(len(links.rank), bool)
    heads = component_heads(links, rounds)
    here = grown[own]
    own, members = own[here], members.filter(pa.array(here))
    head = heads.take(pa.array(own))
    selves = pa.array(np.flatnonzero(grown))
    to = pa.concat_arrays([members, heads.take(selves), head])
    near = pa.concat_arrays([head, links.rank.take(selves), members])
    other = pc.not_equal(to, near)
    return messages(to.filter(other), near.filter(other))


def _members(links: Neighbours, rounds: list[pa.Table]) -> tuple[np.ndarray, pa.Array]:
    """(number of the pair, rank of one that hangs together with it), each once."""
    said = pa.concat_tables([SAID.empty_table(), *rounds])
    at = pc.index_in(whole(said.column("uid")), pc.utf8_slice_codeunits(links.rank, -DIGITS))
    known = pc.is_valid(at)
    own = np.concatenate([links.own, at.filter(known).to_numpy()])
    near = pa.concat_arrays([links.near, whole(said.column("near")).filter(known)])
    table = pa.table({"own": own.astype(np.int64), "near": near}).group_by(["own", "near"]).aggregate([])
    table = table.sort_by([("own", "ascending"), ("near", "ascending")])
    return table.column("own").to_numpy(), whole(table.column("near"))
