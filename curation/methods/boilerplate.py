"""Captions that say nothing about their image, by kind. Every pattern must match the whole caption, in any case."""

import re
from typing import Literal

Boilerplate = Literal[
    "file_name", "camera_name", "url", "date", "number", "hex", "generic", "navigation", "click", "social", "advert"
]

_GENERIC = (
    "image|images|img|picture|pictures|pic|pics|photo|photos|photograph|figure|fig|foto|bild|graphic|graphics|"
    "illustration|screenshot|screen shot|thumbnail|thumb|preview|banner|logo|our logo|site logo|icon|avatar|spacer|"
    "pixel|blank|empty|separator|divider|bullet|line|dot|transparent|placeholder|loading|untitled|unnamed|unknown|"
    "no title|no description|no caption|no image|not available|n/a|none|null|nil|undefined|nan|default|test|todo|alt|"
    "alt text|title|caption|description|name|file|document|slide|scan|ad|ads|advert|advertisement|sponsor|sponsored"
)
_NAVIGATION = (
    "home|homepage|home page|next|next page|prev|previous|previous page|up|back|forward|top|back to top|to top|"
    "first|last|contents|table of contents|toc|index|menu|nav|navigation|search|go|more|read more|see more|"
    "learn more|show more|more info|details|close|open|expand|collapse|print|download|upload|share|like|tweet|"
    "login|log in|logout|sign in|sign up|register|subscribe|cart|add to cart|checkout|help|faq|contact|contact us|"
    "about|about us|sitemap|site map|rss|feed|email|e-mail|skip to content|follow us"
)
_EXTENSIONS = "jpe?g|jpe|jfif|png|gif|webp|bmp|svgz?|tiff?|ico|avif|heic|psd|pdf|eps|html?|php|aspx?|mp4|mov"
_CAMERAS = r"dsc[nf]?|img[pe]?|pict|pxl|mvi|vid|wp|cimg|sam|gopr|hpim|kif|screen[ _-]?shot|scan|whatsapp image"
_SITES = r"twitter|facebook|instagram|pinterest|linkedin|youtube|reddit|tumblr|whatsapp|google|google\+|rss|e-?mail"
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"

PATTERNS = {
    # holiday.jpg, C:\pics\a b.png
    "file_name": rf"\S(?:.*[^\s.])?\.(?:{_EXTENSIONS})",
    # DSC_0123, IMG 2009-11-02, Screenshot 2020 (also after underscores have become spaces)
    "camera_name": rf"(?:{_CAMERAS})[ _-]*\d[\d _.:()-]*(?:at [\d .:]+)?(?: ?[ap]m)?",
    "url": r"(?:https?://|ftp://|www\.)\S+|[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:com|org|net|edu|gov|info|io|co\.uk|de|fr)(?:/\S*)?",
    # 2004-08-25, 25/8/04, Aug 25 2004, 25 August 2004, with or without a time
    "date": (
        rf"(?:\d{{1,4}}[-/. ]\d{{1,2}}[-/. ]\d{{1,4}}|(?:{_MONTHS})[a-z]*\.? \d{{1,2}}(?:st|nd|rd|th)?(?:,? \d{{2,4}})?"
        rf"|\d{{1,2}}(?:st|nd|rd|th)?\.? (?:{_MONTHS})[a-z]*\.?,?(?: \d{{2,4}})?)"
        r"(?:[ t,]+\d{1,2}:\d{2}(?::\d{2})?)?"
    ),
    "number": r"[\W_]*\d[\d\W_]*",
    # 5d41402abc4b2a76b9719d911017c592, 550e8400-e29b-41d4-a716-446655440000, HASH(0x853b2b0)
    "hex": r"(?=.*\d)(?:0x)?[0-9a-f]{8,}(?:[-_ ][0-9a-f]{4,})*|.*\b(?:hash|array|code|scalar)\(0x[0-9a-f]+\).*",
    "generic": (
        rf"\W*(?:(?:a|an|the|my|this|your) )?(?:{_GENERIC})(?:[ -]?(?:#|no\.?|nr\.?|number)? ?\d+)?"
        r"(?: of \d+)?\W*"
    ),
    "navigation": rf"\W*(?:{_NAVIGATION})\W*",
    "click": (
        r"\W*(?:please )?(?:click|tap|press|touch|hover|roll over)\b(?: (?:here|on|to|for|the|this|image|images|"
        r"picture|photo|thumbnail|icon|button|link|it|and|or|see|view|a|full|full-size|fullsize|large|larger|bigger|size|"
        r"sized|version|enlarge|zoom|open|close|play|download|visit|go|more|info|information|details|return|continue|"
        r"website|site))*\W*"
        r"|enlarge(?: (?:image|picture|photo|this image))?|"
        r"(?:view|see) (?:full|larger|large|full-size)(?: (?:size|image|version))*"
    ),
    "social": (
        r"\W*(?:share|follow|find|like|join|tweet|post|pin|save)\b"
        rf"(?: (?:this|it|us|me|on|to|at|via|with|by|{_SITES}))*\W*"
        rf"|\W*(?:on |our )?(?:{_SITES})(?: (?:page|link))?\W*"
    ),
    "advert": (
        r".*\b(?:buy (?:it |them )?(?:now|today|online)|(?:best|lowest|low|special) prices?|free shipping|"
        r"order (?:now|today)|limited (?:time )?offer|click here to buy|\d+% off|satisfaction guaranteed|"
        r"act now|cheap(?:est)? prices?)\b.*"
    ),
}

COMPILED = {name: re.compile(pattern, re.IGNORECASE | re.DOTALL) for name, pattern in PATTERNS.items()}


def boilerplate(text: str, names: tuple[str, ...]) -> str | None:
    """The first of the named patterns that is the whole text, or None."""
    for name in names:
        if COMPILED[name].fullmatch(text):
            return name
    return None


def compiled(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """A user's own patterns, all of them valid; ValueError naming the first that is not."""
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"`{pattern}` is no regular expression: {error}") from None
    return patterns
