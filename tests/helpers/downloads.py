"""The small crawl as a web site whose pages were crawled and whose images were not."""

from pathlib import Path
from typing import Any

from tests.helpers import small_crawl
from tests.helpers.small_crawl import Record
from tests.helpers.web import LOOPBACK, Says, Web

QUICK = {"allow_networks": [LOOPBACK], "backoff_s": 0.01, "timeout_s": 5.0}
_SITE = "http://site.test"


def records(server: Web) -> list[Record]:
    """Those of the small crawl, at the address of the server."""
    found = []
    for url, status, kind, body, robots in small_crawl.records():
        if kind == "text/html" and "/page-" in url:
            body = body.replace(_SITE.encode(), server.url("").encode())
            body = body.replace(b"src=/gone", b"src=" + server.url("/gone").encode())
        found.append((server.url(url.removeprefix(_SITE)) if "/page-" not in url else url, status, kind, body, robots))
    return found


def serve(server: Web) -> None:
    """Has the server answer for the images of the small crawl."""
    for url, status, kind, body, robots in records(server):
        if "/page-" not in url:
            headers = {"Content-Type": kind} | ({"X-Robots-Tag": robots} if robots else {})
            server.routes[url.removeprefix(server.url(""))] = Says(status, body, headers)


def pages(server: Web) -> list[Record]:
    return [each for each in records(server) if "/page-" in each[0]]


def page(urls: list[str], name: str = "more") -> Record:
    """A page that mentions urls."""
    tags = "".join(f'<img src="{url}" alt="a picture of number {n} on {name}">' for n, url in enumerate(urls))
    return f"http://pages.test/{name}.html", 200, "text/html", f"<body>{tags}".encode(), ""


def recipe(folder: Path, rows: list[Record], *, files: int = 1, fetch: Any = None, **more: Any) -> dict[str, Any]:
    """The `curate` section over these records, that downloads what they lack."""
    paths = small_crawl.write(folder / "in", rows, files)
    fetch = {**QUICK, **(fetch or {})} if not isinstance(fetch, bool) else fetch
    return small_crawl.recipe(paths, folder / "out", folder / "entries.json", fetch=fetch, **more)
