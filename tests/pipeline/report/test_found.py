"""What a folder holds: the outputs of a run, in it or in the folders in it, here or in a store."""

import uuid

import fsspec
import pytest

from pipeline.errors import DataError
from pipeline.report import outputs_in, write_report
from tests.helpers import fake_run


def test_outputs_are_found_in_the_folder_and_in_those_in_it(tmp_path):
    folders = fake_run.write_run(tmp_path)
    assert outputs_in(str(tmp_path))[1:] == tuple(folders.values())
    found = outputs_in(folders["train_output"])
    assert (found.name, found.folders) == ("train", [folders["train_output"]])
    (tmp_path / "eval" / "recipe.yaml").write_text("name: mine\n")
    assert outputs_in(str(tmp_path)).name == "mine"


def test_an_empty_folder_is_an_error_that_names_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"summary\.json"):
        outputs_in(str(tmp_path))


def test_a_set_in_a_store_is_found_and_reported_there(tmp_path):
    folders, root = fake_run.write_run(tmp_path), f"memory://report-{uuid.uuid4().hex}"
    fsspec.filesystem("memory").put(folders["curate_output"], root.removeprefix("memory://"), recursive=True)
    found = outputs_in(root)
    assert found.curate_output == root
    write_report(f"{root}/report.html", **found._asdict())
    assert fsspec.filesystem("memory").cat(f"{root}/report.html").startswith(b"<!doctype html>")
