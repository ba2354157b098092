"""A journal keeps every whole line whoever dies, and is not taken from one who is alive."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from curation.pool import journal
from curation.pool.journal import Journal
from tests.helpers.places import ROOT

WRITER = """
import sys, itertools
from curation.pool.journal import Journal
own = Journal(sys.argv[1])
for n in itertools.count():
    own.add([{"key": str(n), "text": "x" * 200}, {"key": f"{n}b"}])
    print(n, flush=True)
"""


def keys(folder):
    return [line["key"] for name in sorted(journal.names(folder)) for line in journal.lines_of(folder, name)]


def test_what_add_has_returned_for_is_there_after_a_kill(tmp_path):
    folder = str(tmp_path / "columns")
    command = [sys.executable, "-c", WRITER, folder]
    writer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    said = [writer.stdout.readline() for _ in range(50)]
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    found = keys(folder)
    assert found[: 2 * len(said)] == [key for n in range(50) for key in (str(n), f"{n}b")]
    assert all(journal.remove(folder, name) for name in journal.names(folder)) and not journal.names(folder)


def test_half_a_line_says_nothing(tmp_path):
    folder = str(tmp_path)
    own = Journal(folder)
    own.add([{"key": "a"}])
    own.close(remove=False)
    [name] = journal.names(folder)
    with open(tmp_path / journal.FOLDER / name, "ab") as file:
        file.write(b'{"key": "b"}\nnot json\n{"key": "c')
    assert keys(folder) == ["a", "b"]


def test_a_living_writer_keeps_its_file_and_everybody_may_read_it(tmp_path):
    folder = str(tmp_path / "columns")
    writer = subprocess.Popen([sys.executable, "-c", WRITER, folder], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        writer.stdout.readline()
        [name] = journal.names(folder)
        assert not journal.remove(folder, name) and "0" in keys(folder)
    finally:
        writer.kill()
        writer.wait()
    time.sleep(0.05)
    assert journal.remove(folder, name)


@pytest.mark.parametrize("remove", [True, False])
def test_closing_leaves_the_lines_or_takes_them_along(tmp_path, remove):
    own = Journal(str(tmp_path))
    own.add([{"key": "a"}])
    own.close(remove=remove)
    assert keys(str(tmp_path)) == ([] if remove else ["a"])


def test_without_files_to_append_to_every_add_is_an_object_of_its_own(monkeypatch):
    base = "memory://journal-test"
    own = Journal(base)
    own.add([{"key": "a"}, {"key": "b"}])
    own.add([])
    own.add([{"key": "c"}])
    assert len(journal.names(base)) == 2 and keys(base) == ["a", "b", "c"]
    own.close(remove=True)
    assert keys(base) == [] and json.dumps({}) == "{}"
