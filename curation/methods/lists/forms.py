"""What an entry of a list names, in the one form in which it is looked up; what can be listed of a pair.

url      as curation/table/urls.py has it; an entry without a scheme stands for http and https
domain   the host in lower-case ASCII (WHATWG: IDN as xn--), without port and trailing dot. `*.x.org`, `.x.org`,
         an address of a page at the top (`https://x.org/`) and lines of a hosts file (`0.0.0.0 x.org`) are read
         as they are meant. It stands for all hosts below it, too
sha256   64 hex; of a line of `sha256sum` the first word
phash    16 hex of the pool's hash, or the number itself
"""

import re
from typing import Any, Literal

import ada_url

from curation.table.urls import canonical_url

Of = Literal["url", "domain", "sha256", "phash"]
_SHA256 = re.compile(r"([0-9a-fA-F]{64})(?:\s.*)?", re.DOTALL)
_PHASH = re.compile(r"(?:0x)?([0-9a-fA-F]{16})")
_HOSTS_LINE = re.compile(r"(?:0\.0\.0\.0|127\.0\.0\.1|::1?)\s+(\S+)")
_NUMBERS = re.compile(r"[0-9.]+|\[.*\]")  # a host that is an address
_PLAIN = re.compile(r"(?:[a-z0-9][a-z0-9_\-]{0,61}\.){1,8}[a-z]{2,20}")
_CANONICAL = re.compile(
    r"https?://(?:(?!xn--)[a-z0-9](?:[a-z0-9_\-]{0,61}[a-z0-9])?\.){1,8}[a-z]{2,20}"
    r"/[A-Za-z0-9\-._~!$&()*+,;=:/]{0,2000}(?:\?[A-Za-z0-9\-._~!$&()*+,;=:/?]{0,2000})?"
)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")


def form_of(of: Of, entry: Any) -> str | None:
    """None for what is no such entry."""
    if of == "phash":
        return _phash(entry)
    if not isinstance(entry, str):
        return None
    entry = entry.strip()
    if of == "sha256":
        match = _SHA256.fullmatch(entry)
        return match[1].lower() if match else None
    if any(c.isspace() for c in entry) and of == "url":
        return None
    return _url(entry) if of == "url" else _domain(entry)


def forms_of(of: Of, some: list[Any]) -> list[str | None]:
    """`form_of` of many; "" for what is empty. Urls that are in their form already are known by a pattern: ten times as
    fast, and nearly every entry of a long list."""
    if of == "url":
        match = _CANONICAL.fullmatch
        return [
            e if isinstance(e, str) and match(e) and "/." not in e else ("" if _is_empty(e) else form_of(of, e))
            for e in some
        ]
    if of == "domain":
        return [
            e
            if isinstance(e, str) and _PLAIN.fullmatch(e) and "xn--" not in e
            else ("" if _is_empty(e) else form_of(of, e))
            for e in some
        ]
    return ["" if _is_empty(e) else form_of(of, e) for e in some]


def _is_empty(entry: Any) -> bool:
    return isinstance(entry, str) and not entry.strip()


def _url(entry: str) -> str | None:
    if _SCHEME.match(entry):
        return canonical_url("", entry)
    if "@" in entry.lstrip("/").split("/")[0]:
        return None  # an address of mail
    found = canonical_url("", "http://" + entry.lstrip("/"))
    return found.removeprefix("http:") if found and "." in host_of(found) else None


def _domain(entry: str) -> str | None:
    if _PLAIN.fullmatch(entry) and "xn--" not in entry:  # nearly every entry of a long list: 20 times as fast
        return entry
    hosts_line = _HOSTS_LINE.fullmatch(entry)
    entry = hosts_line[1] if hosts_line else entry
    if not _SCHEME.match(entry):
        entry = "http://" + entry.removeprefix("*").removeprefix(".")
    url = canonical_url("", entry)
    if url is None or url.split("/", 3)[3:] != [""]:
        return None
    host = host_of(url)
    return host if host and all(host.split(".")) and not any(c in host for c in "*,") else None


def _phash(entry: Any) -> str | None:
    if isinstance(entry, bool):
        return None
    if isinstance(entry, int):
        return f"{entry % 2**64:016x}" if -(2**63) <= entry < 2**64 else None
    match = _PHASH.fullmatch(entry.strip()) if isinstance(entry, str) else None
    return match[1].lower() if match else None


def host_of(url: str) -> str:
    """The host of an absolute url, as above; "" when it has none."""
    try:
        return ada_url.URL(url).hostname.rstrip(".")
    except ValueError:
        return ""


def urls_of(url: str) -> list[str]:
    """The forms under which a url may be listed."""
    whole = canonical_url("", url)
    return [] if whole is None else [whole, whole.split(":", 1)[1]]


def domains_of(url: str) -> list[str]:
    """Its host, then the domains above it, the nearest first; an address in numbers has none above it."""
    host = host_of(url)
    if not host or _NUMBERS.fullmatch(host):
        return [host] if host else []
    labels = host.split(".")
    return [".".join(labels[at:]) for at in range(len(labels))]
