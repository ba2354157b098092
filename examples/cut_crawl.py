"""Cuts a small crawl out of a large one: whole topics, pages and images together, records copied byte for byte.

    python examples/cut_crawl.py OUT.warc.gz CRAWL.warc.gz ... --topics animals,food --hosts gallery.test,mirror.test

A topic is the first word of a page's path that is not a mirror's prefix (`/animals/1.html`, `/m/animals/1.html`).
This is how `examples/clipart-small.warc.gz` was made; see examples/README.md.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from fastwarc.warc import ArchiveIterator, WarcRecordType
from selectolax.lexbor import LexborHTMLParser

Place = tuple[Path, int, int]  # file, first byte, end of one gzip member


def members(path: Path) -> Iterator[tuple[str, str, bytes, Place]]:
    """(url, content type, body, place) of each response record of a .warc.gz with one gzip member a record."""
    with open(path, "rb") as stream:
        found = [
            (
                record.stream_pos,
                record.headers.get("WARC-Target-URI", "").strip("<>"),
                record.http_content_type or "",
                record.reader.read(),
            )
            if record.record_type == WarcRecordType.response
            else (record.stream_pos, "", "", b"")
            for record in ArchiveIterator(stream, parse_http=True)
        ]
    ends = [start for start, *_ in found[1:]] + [path.stat().st_size]
    for (start, url, kind, body), end in zip(found, ends, strict=True):
        if url:
            yield url, kind, body, (path, start, end)


def topic(url: str) -> str:
    words = [word for word in urlsplit(url).path.split("/") if word]
    return words[1] if len(words) > 2 and words[0] == "m" else words[0] if len(words) > 1 else ""


def image_urls(page_url: str, body: bytes) -> set[str]:
    found = set()
    for node in LexborHTMLParser(body).css("img"):
        for name in ("src", "data-src"):
            if node.attributes.get(name):
                found.add(urljoin(page_url, node.attributes[name]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("crawl", type=Path, nargs="+")
    parser.add_argument("--topics", required=True)
    parser.add_argument("--hosts", required=True)
    args = parser.parse_args()
    topics, hosts = set(args.topics.split(",")), set(args.hosts.split(","))

    wanted: set[str] = set()
    places: dict[str, list[Place]] = {}
    for path in sorted(args.crawl):
        for url, kind, body, place in members(path):
            if urlsplit(url).netloc not in hosts:
                continue
            places.setdefault(url, []).append(place)
            if "html" in kind and topic(url) in topics and url.endswith(".html"):
                wanted |= {url, *image_urls(url, body)}
    kept = sorted({place for url in wanted for place in places.get(url, [])})
    with open(args.out, "wb") as out:
        for path, start, end in kept:
            with open(path, "rb") as stream:
                stream.seek(start)
                out.write(stream.read(end - start))
    print(f"{args.out}: {len(kept)} records, {args.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
