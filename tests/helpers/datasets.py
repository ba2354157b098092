"""Small curated datasets for tests: every value is a function of the pair's number."""

import hashlib
import io
from typing import Any

from PIL import Image

from pipeline.contract.manifest import Manifest
from pipeline.contract.pairs import EXTS, Pair
from pipeline.contract.shards import write_shard

_FORMAT = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}


def image_bytes(number: int, ext: str = "jpg", size: tuple[int, int] = (12, 9)) -> bytes:
    """A decodable image in a colour of its own."""
    out = io.BytesIO()
    colour = (number * 37 % 256, number * 91 % 256, number * 53 % 256)
    Image.new("RGB", size, colour).save(out, _FORMAT[ext])
    return out.getvalue()


def make_pair(number: int, ext: str = "jpg", image: bytes | None = None, **meta: Any) -> Pair:
    """Pair `number`: two captions, a real image unless one is given; `meta` adds to KEY.json."""
    data = image_bytes(number, ext) if image is None else image
    uid = hashlib.md5(str(number).encode()).hexdigest()
    captions = [{"text": f"caption {number} é", "source": "alt"}, {"text": f"title {number}", "source": "title"}]
    content = {
        "uid": uid,
        "sha256": hashlib.sha256(data).hexdigest(),
        "width": 12,
        "height": 9,
        "url": f"http://example.org/{number}.{ext}",
        "captions": captions,
    }
    return Pair(uid, data, ext, {**content, **meta})


def make_dataset(folder: str, shards: int = 2, pairs: int = 8, first: int = 0) -> Manifest:
    """Writes a finished dataset of `shards` x `pairs` pairs, numbered from `first`, formats in turn."""
    entries = []
    for shard in range(shards):
        numbers = range(first + shard * pairs, first + (shard + 1) * pairs)
        entries.append(write_shard(folder, shard, (make_pair(n, EXTS[n % 3]) for n in numbers)))
    manifest = Manifest(name="small", num_pairs=shards * pairs, shards=entries)
    manifest.save(folder)
    return manifest
