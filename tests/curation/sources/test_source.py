"""Which files a source's paths name: files alone, whatever else stands there."""

import logging
import os
import socket
from pathlib import Path

import pytest

from curation.sources import SOURCES
from pipeline.errors import RecipeError
from tests.helpers.ingested import parts_of
from tests.helpers.warcs import http, png, record, zipped


def oddities(folder: Path) -> dict[str, Path]:
    """Everything that can bear a file's name without being one."""
    folder.mkdir(parents=True)
    odd = {name: folder / f"{name}.warc.gz" for name in ("pipe", "loop", "dangling", "device", "socket")}
    os.mkfifo(odd["pipe"])
    odd["loop"].symlink_to(odd["loop"].name)
    odd["dangling"].symlink_to("nothing")
    odd["device"].symlink_to("/dev/zero")
    bound = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(folder)  # the path of a socket has 107 bytes at most
    bound.bind(odd["socket"].name)
    os.chdir(here)
    bound.close()
    return odd


@pytest.mark.parametrize("kind", ["warc", "shards"])
def test_what_is_no_file_is_an_error_before_any_work(tmp_path, kind):
    for name, path in oddities(tmp_path / "odd").items():
        with pytest.raises(RecipeError, match=r"curate\.sources\.3\.paths\.0") as caught:
            parts_of(SOURCES[kind](paths=[str(path)]), "curate.sources.3")
        assert path.name in str(caught.value), name
    (tmp_path / "empty.warc.gz").mkdir()
    with pytest.raises(RecipeError, match="nothing at"):
        parts_of(SOURCES[kind](paths=[f"{tmp_path}/empty.warc.gz"]), "curate.sources.3")


@pytest.mark.parametrize("pattern", ["", "/*", "/*.warc.gz"])
def test_among_files_it_is_passed_by_and_named(tmp_path, pattern, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("clipmill"), "propagate", True)
    odd = oddities(tmp_path / "crawl")
    (tmp_path / "crawl" / "folder.warc.gz").mkdir()
    (tmp_path / "crawl" / "good.warc.gz").write_bytes(zipped(record("http://e.org/0.png", http(png()))))
    with caplog.at_level(logging.WARNING):
        (part,) = parts_of(SOURCES["warc"](paths=[f"{tmp_path}/crawl{pattern}"]))
    assert Path(part.path).name == "good.warc.gz"
    for name in (*(path.name for path in odd.values()), "folder.warc.gz"):
        assert name in caplog.text
    assert "good" not in caplog.text


def test_a_folder_may_be_named_like_a_file_and_a_file_like_a_pattern(tmp_path):
    good = zipped(record("http://e.org/0.png", http(png())))
    (tmp_path / "all.warc.gz").mkdir()
    for name in ("all.warc.gz/a.warc.gz", "b[1].warc.gz"):
        (tmp_path / name).write_bytes(good)
        path = tmp_path / name.partition("/")[0]
        assert [part.path for part in parts_of(SOURCES["warc"](paths=[str(path)]))] == [str(tmp_path / name)]
