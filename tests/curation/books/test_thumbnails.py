"""Thumbnails: each image once, in the order of the pool; what does not decode has none."""

import base64
import io
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
from PIL import Image

from curation.books import thumbnails
from curation.pool.store import PLACE, PoolSink
from tests.helpers.pairs import encoded, picture


def test_every_image_is_made_once_and_a_broken_one_is_none(tmp_path):
    bodies = [encoded(picture(n, (300, 200))) for n in range(40)] + [encoded(picture(50))[:90]]
    with PoolSink(str(tmp_path), "p") as sink:
        for n, body in enumerate(bodies):
            sink.image(url=f"http://e.org/{n}", body=body)
        sink.finish({})
    images = pq.read_table(tmp_path / "parts" / "p" / "images.parquet").to_pylist()
    names = ("part", "offset", "size", "sha256", "stored")
    rows = [dict(zip(PLACE, (row[name] for name in names), strict=True)) for row in images]
    cut = thumbnails.batches([*rows, *rows[::-1], {"image_part": "", "image_sha256": ""}, {"uid": "no place"}])
    assert [len(batch) for batch in cut] == [32, 9]
    offsets = [place.offset for batch in cut for place in batch]
    assert offsets == sorted(offsets) and len(set(offsets)) == 41
    job: Any = SimpleNamespace(pool=str(tmp_path))
    made = {sha256: uri for batch in cut for sha256, uri in thumbnails.thumbnails(job, batch).items()}
    assert [uri for uri in made.values()].count(None) == 1
    for uri in filter(None, made.values()):
        assert uri.startswith("data:image/jpeg;base64,")
        assert max(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).size) <= 128
