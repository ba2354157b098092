"""Images are read in order, whichever way: one by one from a disk, many at a time from an object store."""

import threading

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from curation.pool import store
from curation.pool.store import ImagePlace, ImageReader, PoolSink
from pipeline.errors import DataError
from tests.helpers.small_crawl import picture


def stored(pool: str, number: int) -> list[tuple[ImagePlace, bytes]]:
    """Where each image lies, and its bytes; two parts."""
    found = []
    for part in ("p", "q"):
        with PoolSink(pool, part) as sink:
            for at in range(number):
                body = picture(at + number * (part == "q"))
                sink.image(url=f"http://x.test/{part}{at}", body=body)
                sha256, (offset, _) = next(reversed(sink._places.items()))
                found.append((ImagePlace(part, offset, len(body), sha256), body))
            sink.finish({})
    return found


@pytest.fixture(params=["disk", "object store"])
def pool(request, tmp_path):
    return str(tmp_path / "pool") if request.param == "disk" else f"memory://{tmp_path.name}/pool"


def test_all_come_in_the_order_asked_for(pool):
    images = stored(pool, 20)[::-1]
    assert list(ImageReader(pool, most_open=1).read_all(place for place, _ in images)) == [body for _, body in images]
    assert list(ImageReader(pool).read_all([])) == []


def test_a_damaged_one_is_an_error_and_not_another_ones_bytes(pool):
    images = stored(pool, 3)
    wrong = images[1][0]._replace(offset=images[2][0].offset)
    with pytest.raises(DataError, match="is damaged"):
        list(ImageReader(pool).read_all([images[0][0], wrong, images[2][0]]))


def test_an_object_store_is_asked_for_many_before_the_first_has_come(tmp_path, monkeypatch):
    pool = f"memory://{tmp_path.name}/pool"
    images = stored(pool, 20)
    together, plain = threading.Barrier(store.AHEAD, timeout=20), MemoryFileSystem.cat_file

    def waiting(self, path, *args, **more):
        together.wait()  # none is answered before AHEAD have been asked for
        return plain(self, path, *args, **more)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", waiting)
    asked = images[: store.AHEAD]
    assert list(ImageReader(pool).read_all(place for place, _ in asked)) == [body for _, body in asked]
