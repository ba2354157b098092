"""Made-up crawls of PART_PAIRS pairs a part: written where they would be read, or as files for every source."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.sources.source import Part, Source
from made_up.pictures import drawing, png
from made_up.texts import captions

PART_PAIRS = 62_500
PICTURES = 500
"""Distinct images in a part, where they are not all different."""
_ON_A_PAGE, _SITES = 32, 997
SHARES = {"warc": 4, "wat": 4, "table": 4, "shards": 8, "files": 8}
"""Of the pairs of a part, by the source that tells of them: one in so many."""


class MadeUp(Source):
    """Parts that are written where they would be read. `distinct`: every image is another one."""

    kind: Literal["made_up"] = "made_up"
    paths: tuple[str, ...] = ()  # type: ignore[assignment]
    suffixes: ClassVar[tuple[str, ...]] = (".made-up",)
    distinct: bool = False

    def ingest(self, part: Part, sink: Any) -> dict[str, int]:
        number = int(Path(part.path).stem)
        pictures = PART_PAIRS if self.distinct else PICTURES
        for picture in range(PICTURES):
            sink.image(url=f"http://made.up/{number}/{picture}", body=png(number * pictures + picture))
        rng = np.random.default_rng(number)
        urls = rng.integers(0, PART_PAIRS * 20, PART_PAIRS)  # of all parts: one in twenty is mentioned twice
        for at, text in enumerate(captions(number, PART_PAIRS)):
            url = f"http://made.up/{number}/{urls[at]}"
            sink.image(url=url, body=png(number * pictures + at % pictures))
            sink.occurrence(url=url, text=text, source="alt", page_url=f"http://site{at % _SITES}.test/")
        return {"records": PART_PAIRS}


def numbered(folder: Path, parts: int) -> Path:
    """The files that MadeUp takes for parts."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(parts):
        (folder / f"{number}.made-up").write_text(f"{number} of {parts}")
    return folder


def written(folder: Path, parts: int) -> list[dict[str, Any]]:
    """The `sources` of a recipe, whose pairs come as one in four by each: pages of WARC and links of WAT, rows of a
    table, and samples of tars and of folders. What pages, links and rows mention, the WARC files hold."""
    write = {"warc": _warc, "wat": _wat, "table": _table, "shards": _shards, "files": _files}
    ending = {"warc": ".warc", "wat": ".wat", "table": ".parquet", "shards": ".tar", "files": ""}
    for kind, each in write.items():
        (folder / kind).mkdir(parents=True)
        for number in range(parts):
            each(folder / kind / f"{number:05d}{ending[kind]}", number, parts)
    return [{"kind": kind, "paths": [f"{folder}/{kind}/*{ending[kind]}"]} for kind in write]


def _mentions(number: int, parts: int, kind: str) -> list[tuple[str, str, str]]:
    """(page, image, caption) of those of a part that come by `kind`."""
    seed = number * len(SHARES) + list(SHARES).index(kind)
    found = enumerate(captions(seed, PART_PAIRS // SHARES[kind], words=16, families=parts * PART_PAIRS // 20))
    return [
        (f"http://site{at // _ON_A_PAGE % _SITES}.test/{seed}/{at // _ON_A_PAGE}.html", _url(kind, number, at), text)
        for at, text in found
    ]


def _url(kind: str, number: int, at: int) -> str:
    return f"http://images{at % _SITES}.test/{kind}/{number}/{at}.png"


def _pages(mentions: list[tuple[str, str, str]]) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    for at in range(0, len(mentions), _ON_A_PAGE):
        yield mentions[at][0], mentions[at : at + _ON_A_PAGE]


def _warc(path: Path, number: int, parts: int) -> None:
    with open(path, "wb") as file:
        for page, mentions in _pages(_mentions(number, parts, "warc")):
            tags = "".join(f'<img src="{url}" alt="{text}">' for _, url, text in mentions)
            file.write(_answer(page, "text/html", f"<html lang=en><body>{tags}</body></html>".encode()))
        bodies = [drawing(number * PICTURES + at) for at in range(PICTURES)]
        for kind in ("warc", "wat", "table"):
            for at in range(PART_PAIRS // SHARES[kind]):
                file.write(_answer(_url(kind, number, at), "image/png", bodies[at % PICTURES]))


def _wat(path: Path, number: int, parts: int) -> None:
    with open(path, "wb") as file:
        for page, mentions in _pages(_mentions(number, parts, "wat")):
            links = [{"path": "IMG@/src", "url": url, "alt": text} for _, url, text in mentions]
            head = {"Metas": [{"name": "HTML@/lang", "content": "en"}]}
            answer = {"Response-Message": {"Status": "200"}, "Headers": {"Content-Type": "text/html"},
                      "HTML-Metadata": {"Head": head, "Links": links}}  # fmt: skip
            said = {"Format": "WARC", "WARC-Header-Metadata": {"WARC-Type": "response", "WARC-Target-URI": page},
                    "Payload-Metadata": {"Actual-Content-Type": "application/http; msgtype=response",
                                         "HTTP-Response-Metadata": answer}}  # fmt: skip
            file.write(_record(page, "metadata", "application/json", json.dumps({"Envelope": said}).encode()))


def _table(path: Path, number: int, parts: int) -> None:
    _, urls, texts = zip(*_mentions(number, parts, "table"), strict=True)
    similar = np.random.default_rng(number).random(len(urls))
    pq.write_table(pa.table({"url": urls, "caption": texts, "similarity": similar}), path)


def _samples(number: int, parts: int, kind: str) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of members or files."""
    bodies = [drawing(number * PICTURES + at) for at in range(PICTURES)]
    for at, (_, url, text) in enumerate(_mentions(number, parts, kind)):
        told = json.dumps({"url": url, "caption": text}).encode()
        for ending, body in (("png", bodies[at % PICTURES]), ("txt", text.encode()), ("json", told)):
            yield f"{at:09d}.{ending}", body


def _shards(path: Path, number: int, parts: int) -> None:
    with tarfile.open(path, "w") as tar:
        for name, body in _samples(number, parts, "shards"):
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))


def _files(path: Path, number: int, parts: int) -> None:
    path.mkdir()
    for name, body in _samples(number, parts, "files"):
        (path / name).write_bytes(body)


def _answer(url: str, kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return _record(url, "response", "application/http; msgtype=response", head.encode() + body)


def _record(url: str, kind: str, content: str, block: bytes) -> bytes:
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2024-05-01T00:00:00Z\r\n"
        f"Content-Type: {content}\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    return head.encode() + block + b"\r\n\r\n"
