"""The doctor: each line says that it is fine, or what is wrong and what to type."""

import collections
import os
import shutil

import pytest

from pipeline.cluster import commands, doctor
from pipeline.cluster.doctor import Finding, rows_of

Usage = collections.namedtuple("Usage", "total used free")


def named(found, what):
    return next(each for each in found if each.what == what)


def test_each_line_that_is_wrong_says_what_to_type(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "_gpus", lambda: [Finding("gpu", "ok", "none")])
    found = doctor.examine(tmp_path)
    assert {"python", "numpy", "gpu", "shm", "disk", "files", "storage", "clock", "local"} <= {e.what for e in found}
    assert all(each.hint for each in found if each.is_wrong)
    assert named(found, "storage").word == "ok" and named(found, "clock").word == "ok"
    assert all(len(row) == len(doctor.HEADS) for row in rows_of(found))
    assert not list(tmp_path.iterdir())


def test_a_full_machine_is_told(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1, 1, 1000))
    found = doctor._memory_and_files()
    assert named(found, "shm").is_wrong and "--shm-size" in named(found, "shm").hint
    assert named(found, "disk").is_wrong


def test_storage_that_takes_nothing_is_told(tmp_path):
    (tmp_path / "file").touch()
    found = doctor._storage(tmp_path / "file/run")
    assert found[0].is_wrong and str(tmp_path / "file/run") in found[0].hint


def test_a_clock_that_differs_from_the_file_servers_is_told(tmp_path, monkeypatch):
    from pipeline import storage

    publish = storage.publish_bytes

    def late(url, data):
        publish(url, data)
        os.utime(url, (1, 1))

    monkeypatch.setattr(storage, "publish_bytes", late)
    assert named(doctor._storage(tmp_path), "clock").is_wrong


@pytest.mark.parametrize(("value", "wrong"), [("eno_such9", True), ("lo", False), ("^docker", False), ("", False)])
def test_an_interface_that_is_not_there_is_told(monkeypatch, value, wrong):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", value)
    assert named(doctor._network(), "GLOO_SOCKET_IFNAME").is_wrong == wrong


def answers(monkeypatch, **said):
    monkeypatch.setattr(doctor, "_answer", lambda words, limit_s=20: said.get(os.path.basename(words[0]).split("3")[0]))


def test_a_driver_that_torch_cannot_use_is_told(monkeypatch):
    smi = {"nvidia-smi": "H100, 550\nH100, 550", "python": "2.11.0+cpu|0|||False"}
    answers(monkeypatch, **smi)
    found = doctor._gpus()
    assert found[0].is_wrong and "nvidia-smi shows 2, torch sees none" in found[0].found
    answers(monkeypatch, python="2.11.0+cpu|0|||False")
    assert [each.word for each in doctor._gpus()] == ["ok", "unknown"]
    answers(monkeypatch)
    assert doctor._gpus()[0].what == "torch" and not doctor._gpus()[0].is_wrong


def test_schedulers_are_told_where_they_are(monkeypatch):
    answers(monkeypatch, sinfo="slurm 23.02")
    found = doctor._schedulers()
    assert named(found, "slurm").found == "slurm 23.02" and named(found, "kubernetes").word == "unknown"


@pytest.mark.parametrize("words", [["ok", "ok"], ["ok", "wrong", "ok"], ["wrong", "wrong"]])
@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_fails_when_anything_at_all_is_wrong(monkeypatch, capsys, words, as_json):
    found = [Finding(f"thing {number}", word, "as it is", "type this") for number, word in enumerate(words)]
    monkeypatch.setattr(doctor, "examine", lambda folder: found)
    try:
        commands.doctor(None, as_json)
        code = 0
    except SystemExit as ended:
        code = ended.code
    assert code == int(any(each.is_wrong for each in found)) == int("wrong" in words)
    assert all(each.what in capsys.readouterr().out for each in found[:1])
