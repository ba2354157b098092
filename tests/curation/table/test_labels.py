"""Tables of labels: every format the same rows; what is no label is counted."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.table.labels import read_labels
from pipeline.errors import RecipeError


def test_every_format_gives_the_same_rows(tmp_path):
    (tmp_path / "a.csv").write_text('text,score,more\n"two,\nlines",1.5,x\n0012,2,y\n,3,z\nq,,w\n')
    (tmp_path / "a.tsv").write_text('text\tscore\n"two,\nlines"\t1.5\n0012\t2\n\t3\nq\t\n')
    rows = ['{"text": "two,\\nlines", "score": 1.5}', '{"text": "0012", "score": 2}', '{"text": "", "score": 3}']
    (tmp_path / "a.jsonl").write_text("\n".join([*rows, '{"text": "q"}']))
    pq.write_table(
        pa.table({"text": ["two,\nlines", "0012", None, "q"], "score": [1.5, 2, 3, np.nan]}), tmp_path / "a.parquet"
    )
    for suffix in ("csv", "tsv", "jsonl", "parquet"):
        found = read_labels(str(tmp_path / f"a.{suffix}"), "score", ("uid", "text"), "head.labels")
        assert (found.by, found.names, found.numbers.tolist(), found.bad) == (
            "text",
            ["two,\nlines", "0012"],
            [1.5, 2],
            2,
        )


def test_two_names_of_what_is_labelled_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("uid,url,label\nx,y,1\n")
    with pytest.raises(RecipeError, match="exactly one"):
        read_labels(str(tmp_path / "a.csv"), "label", ("uid", "url"), "head.labels")


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_damaged_table_is_one_error(tmp_path, name):
    (tmp_path / name).write_bytes(b'uid,label\n"x\n{"' + bytes(range(200)))
    with pytest.raises(RecipeError):
        read_labels(str(tmp_path / name), "label", ("uid",), "head.labels")
