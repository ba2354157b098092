"""What an evaluation set holds is asked for its size first, and what is too large or no text is named."""

import tarfile
from pathlib import Path

import pytest

from pipeline.errors import DataError
from tests.helpers.places import shared_params
from tests.helpers.tars import header, packed, special, summed, tar_bytes
from tests.helpers.tiny_run import write_eval_set
from training.evals.data import open_rows, read_lines
from training.ranks.peers import Peers


def made(tmp_path: Path, content: bytes) -> str:
    (tmp_path / "test").mkdir(exist_ok=True)
    (tmp_path / "test/nshards.txt").write_text("1")
    (tmp_path / "test/0.tar").write_bytes(content)
    return str(tmp_path)


@pytest.mark.parametrize("text", ["9" * 5000, "1\n" * 100, "0", "²", "1000000", ""])
def test_a_number_of_shards_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    path = made(tmp_path, b"")
    (tmp_path / "test/nshards.txt").write_text(text)
    with pytest.raises(DataError, match=r"nshards\.txt"):
        open_rows(Peers.alone(), path, "test", "txt")


@pytest.mark.parametrize("name", ["0.txt", "0.jpg"])
def test_a_label_or_image_of_gigabytes_is_named_and_not_read(tmp_path: Path, name: str) -> None:
    other = "0.jpg" if name == "0.txt" else "0.txt"
    path = made(tmp_path, b"")
    with open(tmp_path / "test/0.tar", "wb") as file:
        file.write(packed(other.encode(), b"x"))
        block = header(name.encode(), 0)
        block[124:136] = b"%011o\0" % (5 << 30)
        file.write(summed(block))
        file.truncate(file.tell() + (5 << 30) + 1024)
    with pytest.raises(DataError, match=rf"0\.tar at byte 0: {name} of 5368709120 bytes; at most"):
        open_rows(Peers.alone(), path, "test", "txt")


@pytest.mark.parametrize("name", ["classnames.txt", "templates.txt"])
def test_lines_that_are_no_text_or_gigabytes_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"a\n\xff\n")
    with pytest.raises(DataError, match="byte 2 is no UTF-8"):
        read_lines(str(tmp_path), name)
    with open(tmp_path / name, "wb") as file:
        file.truncate(5 << 30)
    with pytest.raises(DataError, match="5368709120 bytes; at most"):
        read_lines(str(tmp_path), name)


@pytest.mark.parametrize(
    "odd", [("x.pkl", b"x"), (special("1.jpg", tarfile.SYMTYPE, "0.jpg"), b""), ("0.jpeg", b"x"), ("../1.jpg", b"x")]
)
def test_a_set_is_read_by_the_strict_rules(tmp_path: Path, odd: tuple) -> None:
    path = made(tmp_path, tar_bytes([("0.jpg", b"x"), ("0.txt", b"t"), odd]))
    with pytest.raises(DataError, match=r"0\.tar at byte \d+"):
        open_rows(Peers.alone(), path, "test", "txt")


def test_rows_are_places_of_the_bytes_in_the_tar(tmp_path: Path) -> None:
    path = write_eval_set(tmp_path / "set", 12, "txt", shards=2)
    check_rows(path, "txt", 12)


@pytest.mark.parametrize("number", shared_params("eval/*/test/nshards.txt"), ids=lambda path: path.parts[-3])
def test_rows_of_real_sets_are_what_tarfile_reads(number: Path) -> None:
    label = "cls" if (number.parents[1] / "classnames.txt").exists() else "txt"
    check_rows(number.parents[1], label, None)


def check_rows(path: Path, label: str, count: int | None) -> None:
    rows = open_rows(Peers.alone(), str(path), "test", label)
    expected = []
    for shard in range(int((path / "test/nshards.txt").read_text())):
        with tarfile.open(path / f"test/{shard}.tar") as archive:
            held = {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}
        keys = dict.fromkeys(name.rpartition(".")[0] for name in held)
        for key in keys:
            image = next(held[f"{key}.{end}"] for end in ("jpg", "jpeg", "png", "webp") if f"{key}.{end}" in held)
            expected.append((key, image, held[f"{key}.{label}"]))
    got = [(row.key, Path(row.shard).read_bytes()[row.start : row.start + row.size], row.label) for row in rows]
    assert got == expected and count in (None, len(got))
