"""The canonical form of an image url: what makes two mentions of one image the same pair.

The form is the WHATWG one (ada), without credentials and fragment, and with percent-escapes normalised as RFC 3986
section 6.2.2 says (upper-case hex, unreserved characters plain), so that a url as a page writes it and as a crawler
recorded it meet. It is idempotent.
"""

import re
from functools import lru_cache

import ada_url

MAX_URL_CHARS = 4096
_MAX_HREF_CHARS = 4 * MAX_URL_CHARS  # percent-encoding only makes it longer; the rest is white space and dot segments

_TRIM = "".join(map(chr, range(0x21)))  # C0 controls and space, as WHATWG trims
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
# Parsers disagree where the host ends when a backslash stands before it: http://a.com\@10.0.0.1/ (none is honest).
_BACKSLASH_IN_AUTHORITY = re.compile(r"(?:[/\\]{2}|[A-Za-z][A-Za-z0-9+.\-]*:[/\\]*)[^/?#]*\\")
_PERCENT = re.compile(r"%([0-9A-Fa-f]{2})?")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def _escape(match: re.Match[str]) -> str:
    digits = match[1]
    if digits is None:
        return "%25"  # a lone % would turn into an escape when the characters behind it change
    byte = int(digits, 16)
    return chr(byte) if byte in _UNRESERVED else f"%{digits.upper()}"


# Of most addresses nothing is to be changed, and that is seen sooner than a parser for all addresses sees it: no dot
# segments, escapes, upper-case or international hosts, ports, user names, or numbers for hosts.
_PATH = r"(?:/(?!\.)[A-Za-z0-9_~,+=:;()!$&*.-]*+)++(?:\?[A-Za-z0-9_~,+=:;()!$&*./?-]*+)?+"
_PLAIN = re.compile(rf"https?://(?:(?!xn--)[a-z0-9][a-z0-9-]*+\.)++[a-z]{{2,}}+{_PATH}")
_PLAIN_PATH = re.compile(rf"(?!//){_PATH}")
_SHORT = 2000  # characters of an address that is looked at so


@lru_cache(maxsize=1 << 14)
def _parse(base: str, href: str) -> tuple[str, str]:
    href = href.strip(_TRIM)
    scheme = _SCHEME.match(href)
    if scheme and scheme[0].lower() == "data:":
        return "", "data_url"
    if scheme and scheme[0].lower() not in ("http:", "https:"):
        return "", "bad_scheme"
    if not href:
        return "", "no_url"
    if len(href) > _MAX_HREF_CHARS:
        return "", "url_too_long"
    if _BACKSLASH_IN_AUTHORITY.match(href):
        return "", "bad_url"
    try:
        url = ada_url.URL(href, base=base) if base else ada_url.URL(href)
        if url.protocol not in ("http:", "https:"):
            return "", "bad_scheme"  # the base element said file: or the like
        whole = url.href
        if "@" in whole or "#" in whole:  # else there is nothing to take away, at the cost of a parse each
            url.username = url.password = url.hash = ""
            whole = url.href
    except ValueError:  # UnicodeEncodeError (a lone surrogate) is one of these
        return "", "bad_url"
    if "%" in whole:
        whole = _PERCENT.sub(_escape, whole)
    return (whole, "") if len(whole) <= MAX_URL_CHARS else ("", "url_too_long")


@lru_cache(maxsize=1 << 10)
def _origin(base: str) -> str:
    """Scheme, host and port of a base that is in canonical form itself; else ""."""
    whole, _ = _parse("", base)
    return whole[: whole.index("/", len("https://"))] if whole == base and whole else ""


def resolve(base: str, href: str) -> tuple[str, str]:
    """(canonical url, "") or ("", reason): no_url data_url bad_scheme bad_url url_too_long. Never raises.

    `base` is the page's (or its base element's) absolute url, or "" when `href` must be absolute itself.
    """
    if len(href) < _SHORT:
        if href[:1] == "/":
            origin = _origin(base) if _PLAIN_PATH.fullmatch(href) else ""
            if origin:
                return origin + href, ""
        elif _PLAIN.fullmatch(href) and (not base or _origin(base)):
            return href, ""
    if len(href) > 1 << 16:  # an inlined image of 30 MB is not worth hashing for the cache
        return "", "data_url" if href[:64].lstrip(_TRIM)[:5].lower() == "data:" else "url_too_long"
    return _parse(base, href)


def canonical_url(base: str, href: str) -> str | None:
    """The canonical absolute http(s) url of `href` seen on a page at `base`; None when it has none."""
    return resolve(base, href)[0] or None
