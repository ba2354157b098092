"""WAT records of pages, written from a page by the standard library's tag reader: links in the order of the page."""

import json
from html.parser import HTMLParser
from typing import Any

from tests.helpers.warcs import record

_TEXTS = ("alt", "title", "data-image-title", "aria-label")
_IMAGE = ("src", "data-src", "data-original", "data-lazy-src", "srcset", "data-srcset")


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.head: dict[str, Any] = {"Metas": []}
        self.links: list[dict[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in reversed(attrs)}
        if tag == "html":  # as Common Crawl has it: an attribute of the root among the metas
            named = [
                {"name": f"HTML@/{name}", "content": found[name]} for name in ("lang", "xml:lang") if name in found
            ]
            self.head["Metas"] += named
        elif tag == "base" and "href" in found:
            self.head.setdefault("Base", found["href"])
        elif tag == "meta":
            self.head["Metas"].append(found)
        elif tag == "img":
            texts = {name: found[name] for name in _TEXTS if found.get(name)}
            for number, name in enumerate(name for name in _IMAGE if name in found):
                self.links.append({"path": f"IMG@/{name}", "url": found[name], **(texts if not number else {})})
        elif tag == "source" and "srcset" in found:
            self.links.append({"path": "SOURCE@/srcset", "url": found["srcset"]})
        elif tag in ("a", "link") and "href" in found:
            self.links.append({"path": f"{tag.upper()}@/href", "url": found["href"]})

    handle_startendtag = handle_starttag


def envelope(url: str, page: str, status: str = "200", **headers: Any) -> dict[str, Any]:
    links = _Links()
    links.feed(page)
    links.close()
    html = {"Head": links.head, "Links": links.links}
    answer = {"Response-Message": {"Status": status, "Version": "HTTP/1.1"},
              "Headers": {"Content-Type": "text/html", **{k.replace("_", "-"): v for k, v in headers.items()}},
              "HTML-Metadata": html}  # fmt: skip
    header = {"WARC-Type": "response", "WARC-Target-URI": url}
    return {"Container": {"Compressed": True}, "Envelope": {
        "Format": "WARC", "WARC-Header-Metadata": header,
        "Payload-Metadata": {"Actual-Content-Type": "application/http; msgtype=response",
                             "HTTP-Response-Metadata": answer}}}  # fmt: skip


def wat(url: str, content: Any) -> bytes:
    """A metadata record; `content` as JSON, or bytes as they are."""
    block = content if isinstance(content, bytes) else json.dumps(content).encode()
    return record(url, block, kind="metadata", Content_Type="application/json")
