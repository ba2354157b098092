"""What a Measure is given, a row for each of its units, and how its results come back to pairs and captions."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.methods.reasons import no_reasons, sift
from curation.stage import ANSWERS, IMAGE, Generate, Measure, Picks, Verdicts
from curation.table import arrow, captions
from curation.table.arrow import whole
from curation.table.stored import IMAGE_STORED, sha256_of_stored
from pipeline.contract.pairs import NEGATIVE

KEY, REASON, GRADE = "key", "reason", "grade"
FIRST = "first"
"""Of rows that answer a Generate: true in one unit of all that share the answers."""
ANSWERED, ONCE = "answered", "once:"
"""What Verdicts call an answer that is used; and before the name of a count that has each answer once."""
PER_CAPTION = ("text", "caption")
_CAPTIONS = "captions."


def kept_schema(stage: Measure) -> pa.Schema:
    """What is kept of each distinct input. grade: of several rows of a key the highest counts."""
    own = [ANSWERS, pa.field(GRADE, pa.int32())] if isinstance(stage, Generate) else list(stage.adds)
    return pa.schema([pa.field(KEY, pa.string()), *own, pa.field(REASON, pa.string())])


def units_of(stage: Measure, pairs: pa.Table) -> pa.Table:
    """The inputs of every unit, in order of pair and caption; of an image the sha256 of what the pool has."""
    per_caption = stage.unit in PER_CAPTION
    flat = captions.explode(pairs) if per_caption else None
    columns: dict[str, pa.Array] = {}
    for name in stage.reads:
        if flat is not None and name.startswith(_CAPTIONS):
            columns[name.removeprefix(_CAPTIONS)] = whole(flat.column(name.removeprefix(_CAPTIONS)))
        elif not name.startswith(_CAPTIONS):
            values = sha256_of_stored(pairs) if name == IMAGE else whole(pairs.column(name))
            columns[name] = values if flat is None else values.take(flat.column(captions.ROW))
        else:
            columns["captions"] = _caption_lists(pairs, stage.reads)
    return pa.table(columns)


def _caption_lists(pairs: pa.Table, reads: Sequence[str]) -> pa.Array:
    """The captions with the fields that are read alone: nothing else names what comes of them."""
    fields = [name.removeprefix(_CAPTIONS) for name in reads if name.startswith(_CAPTIONS)]
    return captions.implode(captions.explode(pairs).select([captions.ROW, *fields]), pairs.num_rows)


def keys_of(stage: Measure, units: pa.Table, origins: Mapping[str, str]) -> pa.Array:
    """32 hex naming the values of each row; null: nothing is asked about it. `origins`: what else names the values of a
    column (the digest of the stage whose vectors it stands for)."""
    if isinstance(stage, Generate):
        return pa.array(stage.subjects(units), pa.string())
    if stage.unit == "image" and units.column_names == [IMAGE]:
        return pc.utf8_slice_codeunits(whole(units.column(IMAGE)), 0, 32)
    if stage.unit == "image" and units.column_names == [IMAGE, IMAGE_STORED]:
        stored = whole(units.column(IMAGE_STORED)).dictionary_encode()
        hashes = [_hash(text.encode()) if text else None for text in stored.dictionary.to_pylist()]
        keys = pa.array(hashes, pa.string()).take(stored.indices)
        return pc.coalesce(keys, pc.utf8_slice_codeunits(whole(units.column(IMAGE)), 0, 32))
    if units.num_columns == 1 and pa.types.is_string(units.schema.field(0).type) and not origins:
        encoded = whole(units.column(0)).dictionary_encode()
        hashes = [_hash(text.encode()) for text in encoded.dictionary.to_pylist()]
        return pa.array(hashes, pa.string()).take(encoded.indices)
    head = json.dumps(sorted(origins.items()))
    rows = zip(*(column.to_pylist() for column in units.columns), strict=True)
    return pa.array([_hash((head + json.dumps(row, default=_plain)).encode()) for row in rows], pa.string())


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _plain(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"a column of {type(value).__name__} cannot be the input of a measure")


def checked(stage: Measure, keys: pa.Array, made: pa.Table) -> pa.Table:
    """What a stage measured, against what it promised: a row for each key, the columns of `kept_schema`."""
    if made.num_rows != len(keys):
        raise ValueError(f"{stage.kind} measured {made.num_rows} rows for {len(keys)} inputs")
    columns = []
    for f in kept_schema(stage):
        if f.name == KEY:
            columns.append(keys)
        elif f.name in made.schema.names:
            columns.append(whole(made.column(f.name)).cast(f.type))
        elif f.name == REASON:
            columns.append(pa.nulls(len(keys), pa.string()))
        else:
            raise ValueError(f"{stage.kind} measured no column {f.name!r}; found {', '.join(made.schema.names)}")
    return pa.table(columns, schema=kept_schema(stage))


def attached(stage: Measure, pairs: pa.Table, rows: pa.Table) -> Verdicts:
    """`rows` of `kept_schema`, one for each unit, as what they say of the pairs. Of vectors the key stands for them."""
    if isinstance(stage, Generate):
        return _generated(stage, pairs, rows)
    columns = rows.select([f.name for f in stage.adds])
    if stage.store == "vectors":
        columns = pa.table({f.name: rows.column(KEY) for f in stage.adds})
    reasons = whole(rows.column(REASON))
    if stage.unit not in PER_CAPTION:
        return Verdicts(reason=reasons, columns=columns)
    fielded = captions.with_fields(pairs, columns)
    if reasons.null_count == len(reasons):
        return Verdicts(reason=no_reasons(pairs.num_rows), captions=fielded.column("captions"))
    return sift(captions.explode(fielded), reasons, pairs.num_rows)


def _generated(stage: Generate, pairs: pa.Table, rows: pa.Table) -> Verdicts:
    """The captions with the answers behind them; a text that a pair has already is not added again. Negatives go into
    a column of their own."""
    flat, units = captions.explode(pairs), units_of(stage, pairs)
    owner = flat.column(captions.ROW).to_numpy() if stage.unit in PER_CAPTION else np.arange(pairs.num_rows)
    found = stage.said(units, rows.column(ANSWERS.name).to_pylist())
    is_first = rows.column(FIRST).to_numpy(False) if FIRST in rows.column_names else np.ones(rows.num_rows, bool)
    at, why = np.array(found.unit, np.int64), pa.array(found.reasons, pa.string())
    of = whole(flat.column("text")).take(pa.array(at)) if stage.unit in PER_CAPTION else pa.nulls(len(at), pa.string())
    told = pa.table({captions.ROW: owner[at], "of": of, "text": pa.array(found.texts, pa.string()), "reason": why})
    counts = _answer_counts(why, is_first[at])
    is_used = why.is_null()
    at, texts = at[is_used.to_numpy(False)], whole(told.column("text")).filter(is_used)
    verdicts = _used(stage, pairs, flat, owner[at], texts, pa.array(found.scores, pa.float32()).filter(is_used), at)
    return replace(verdicts, counts=counts | dict(found.not_asked) | verdicts.counts, answers=told)


def _answer_counts(why: pa.Array, is_first: np.ndarray) -> dict[str, int]:
    """By what became of answers, of every unit; and of each answer once, whoever shares it."""
    names = pc.fill_null(why, ANSWERED)
    counts = {each["values"]: each["counts"] for each in pc.value_counts(names).to_pylist()}
    once = pc.value_counts(names.filter(pa.array(is_first))).to_pylist()
    return counts | {f"{ONCE}{each['values']}": each["counts"] for each in once}


def _used(
    stage: Generate,
    pairs: pa.Table,
    flat: pa.Table,
    owner: np.ndarray,
    texts: pa.Array,
    scores: pa.Array,
    unit: np.ndarray,
) -> Verdicts:
    """What becomes of the answers that are used. owner, texts, scores, unit: of each of them."""
    reasons, source = no_reasons(pairs.num_rows), stage.provenance()["source"]
    if stage.adds:
        first, where = np.unique(owner, return_index=True)
        column = np.full(pairs.num_rows, "", object)
        column[first] = np.array(texts.to_pylist(), object)[where]
        columns = pa.table([pa.array(column, pa.string())], schema=pa.schema(stage.adds))
        return Verdicts(reason=reasons, columns=columns)
    by = {name: pa.array([value] * len(owner), pa.string()) for name, value in stage.provenance().items()}
    made = pa.table({captions.ROW: owner, "text": texts, "score": scores, **by})
    if source.partition(":")[0] == NEGATIVE:
        if stage.unit in PER_CAPTION:
            made = made.append_column("of", whole(flat.column("text")).take(pa.array(unit)))
        negatives, number = captions.with_negatives(pairs, made)
        picks = (texts_picked("negatives: what these pictures do not show", made),)
        columns, counts = pa.table({captions.NEGATIVES: negatives}), {"negatives": number}
        return Verdicts(reason=reasons, columns=columns, counts=counts, picks=picks)
    return Verdicts(reason=reasons, captions=_with_captions(pairs, flat, made))


def texts_picked(title: str, made: pa.Table, place: int = 0) -> Picks:
    """For the report: texts (ROW | text) under one heading, the first of a pair each."""
    rows, first = np.unique(made.column(captions.ROW).to_numpy(), return_index=True)
    return Picks(title, rows, texts=whole(made.column("text")).take(pa.array(first)), place=place)


def _with_captions(pairs: pa.Table, flat: pa.Table, made: pa.Table) -> pa.Array:
    both = pa.concat_tables([flat, _fitted(made, flat.schema)], promote_options="default")
    order = np.lexsort([np.arange(both.num_rows) >= flat.num_rows, both.column(captions.ROW).to_numpy()])
    both = both.take(pa.array(order))
    text = whole(both.column("text")).dictionary_encode()
    code = both.column(captions.ROW).to_numpy() * max(len(text.dictionary), 1) + text.indices.to_numpy()
    first = np.zeros(len(code), bool)
    first[np.unique(code, return_index=True)[1]] = True
    stays = first | (order < flat.num_rows)
    return captions.implode(both.filter(pa.array(stays)), pairs.num_rows)


def _fitted(made: pa.Table, schema: pa.Schema) -> pa.Table:
    """Captions that no page carried: the fields of provenance, and "" for those that every caption has."""
    for f in schema:
        if f.name not in made.schema.names:
            blank = pa.array([""] * made.num_rows, pa.string()) if f.type == pa.string() else None
            made = made.append_column(f, pa.nulls(made.num_rows, f.type) if blank is None else blank)
    return made.select([*schema.names, *(n for n in made.schema.names if n not in schema.names)])


def with_vectors(pairs: pa.Table, name: str, vectors: pa.Table, field: str) -> pa.Table:
    """`pairs` with what the keys in the column `name` stand for: column `field` of `vectors`, by their KEY."""
    known = whole(vectors.column(KEY))
    if not name.startswith(_CAPTIONS):
        at = pc.index_in(whole(pairs.column(name)), known)
        return arrow.with_columns(pairs, pa.table({name: whole(vectors.column(field)).take(at)}))
    flat = captions.explode(pairs)
    at = pc.index_in(whole(flat.column(name.removeprefix(_CAPTIONS))), known)
    columns = pa.table({name.removeprefix(_CAPTIONS): whole(vectors.column(field)).take(at)})
    return captions.with_fields(pairs, columns)
