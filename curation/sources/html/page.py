"""From a web page to the images it mentions, with the texts that stand by each.

An <img> is looked for in the page as written: plain, lazily loaded, in <picture>, in <noscript>. Its address is its
`src` (or what a lazy loader would put there) and the best candidate of its `srcset`s; its texts are its own attributes
and the caption of the innermost figure around it: the first <figcaption> of that figure with a text, less what stands
in scripts, styles and figures inside it. Content of <template> is no part of a page, nor are elements of svg and math.

Nothing a page holds raises or takes more than linear time; what is left out is counted by reason.
"""

import re
from collections import Counter
from dataclasses import dataclass, field

from curation.sources.html.attributes import attributes, unescape
from curation.sources.html.tags import nesting_for, tags
from curation.table.urls import resolve

# Caption source -> attributes, in the order in which captions are passed on.
TEXT_ATTRIBUTES = ("alt", "title", "data-image-title", "aria-label")
LAZY = ("data-src", "data-original", "data-lazy-src", "data-lazy", "data-img-src")  # `src` is then a placeholder
SETS = ("srcset", "data-srcset", "data-lazy-srcset", "data-original-set")
_IMAGES = ("img", "image", "amp-img")  # HTML reads <image> as <img>
_WATCHED = frozenset([*_IMAGES, "source", "picture", "/picture", "figure", "figcaption", "base", "meta", "html"])
_INLINE = frozenset("a abbr b bdi bdo cite code em font i kbd mark q s small span strong sub sup time u wbr".split())

_ROBOT = re.compile(r"robots|[a-z0-9-]*bot|googlebot-[a-z]+|slurp")
_MAX_META_CHARS = 1000
_MAX_LANGUAGE_CHARS = 35
_MAX_CANDIDATES = 1000
_SET_SPACE = re.compile(r"[\s,]*")
_SET_URL = re.compile(r"\S+")
_DESCRIPTOR = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([wx])")
_INVISIBLE = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]")  # not C1: mojibake to repair
_NOT_TEXT = re.compile("[\ufffd\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Mention:
    """One image address on a page, with its (source, text) captions; none when the page says nothing of it."""

    url: str
    texts: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Page:
    mentions: list[Mention] = field(default_factory=list)
    robots: tuple[str, ...] = ()  # lower-case, in page order; a bot's own are "bot: token"
    language: str = ""
    counts: Counter[str] = field(default_factory=Counter)  # mentions, bad_mentions:<reason>, bad_texts:<reason>


@dataclass(slots=True)
class _Figure:
    images: list[int] = field(default_factory=list)  # positions in PageReading.images
    caption: str = ""
    open_captions: int = 0  # <figcaption>s inside each other
    written: list[str] = field(default_factory=list)  # texts of the open ones
    chars: int = 0


@dataclass(slots=True)
class _Image:
    urls: tuple[str, ...]
    texts: list[tuple[str, str]]


def visible(text: str, max_chars: int) -> tuple[str, str]:
    """(text, "") without control and bidi override characters, or ("", reason): text_too_long, bad_unicode."""
    if len(text) > max_chars:
        return "", "text_too_long"
    if text.isascii() and text.isprintable():
        return text, ""
    if _NOT_TEXT.search(text):
        return "", "bad_unicode"
    return _INVISIBLE.sub("", text), ""


def best_candidate(srcset: str) -> tuple[str, float]:
    """The url of the widest (or densest) candidate and its size; ("", 0) when there is none. Ties go to the first."""
    best, best_size, at, seen = "", 0.0, 0, 0
    while seen < _MAX_CANDIDATES:
        seen += 1
        at = _SET_SPACE.match(srcset, at).end()  # type: ignore[union-attr]  # matches the empty text too
        match = _SET_URL.match(srcset, at)
        if match is None:
            break
        url, at, size = match[0], match.end(), 1.0
        if url.endswith(","):
            url = url.rstrip(",")
        else:
            comma = srcset.find(",", at)
            stop = len(srcset) if comma < 0 else comma
            described = _DESCRIPTOR.search(srcset, at, min(stop, at + 100))
            size, at = float(described[1]) if described else 1.0, stop
        if size > best_size and url[:5].lower() != "data:":
            best, best_size = url, size
    return best, best_size


def best_of_sets(found: dict[str, str]) -> tuple[str, float]:
    """The best candidate of an element's `srcset` and its lazy forms."""
    if found.keys().isdisjoint(SETS):
        return "", 0.0
    sets = (best_candidate(unescape(found[name], attribute=True)) for name in SETS if name in found)
    return max(sets, key=lambda one: one[1], default=("", 0.0))


class PageReading:
    """The state of one pass over a page."""

    def __init__(self, page_url: str, max_images: int, max_text_chars: int) -> None:
        self.page = Page()
        self.page_url, self.base = page_url, page_url
        self.max_images, self.max_text_chars = max_images, max_text_chars
        self.images: list[_Image] = []
        self.figures: list[_Figure] = []
        self.captions: list[_Figure | None] = []  # whose each open <figcaption> is
        self.picture = False
        self.best_source = ("", 0.0)  # of the <source>s of the open picture: they belong to its first <img>
        self.robots: dict[str, None] = {}
        self.based = False

    def read(self, text: str) -> None:
        at, nesting = 0, nesting_for(text)
        is_hidden = False
        for start, end, name, written in tags(text, nesting):
            here = self.figures[-1] if self.figures and self.figures[-1].open_captions and not is_hidden else None
            if here is not None:
                self.add_caption(here, text[at:start])
                if name and name.lstrip("/") not in _INLINE:
                    here.written.append(" ")
            at = end
            if nesting is not None:
                if nesting.closed:
                    for closed in nesting.closed:
                        self.close(closed)
                    nesting.closed.clear()
                is_hidden = nesting.is_template or nesting.num_unseen > 0
                if nesting.is_template:
                    continue
            if name in _WATCHED:
                self.tag(name, written)
        if self.figures and self.figures[-1].open_captions and not is_hidden:
            self.add_caption(self.figures[-1], text[at:])
        while self.captions:
            self.close("figcaption")
        while self.figures:
            self.close("figure")
        self.finish()

    def tag(self, name: str, written: str) -> None:
        if name in _IMAGES:
            self.image(attributes(written))
        elif name == "picture":
            self.picture, self.best_source = True, ("", 0.0)
        elif name == "/picture":
            self.picture, self.best_source = False, ("", 0.0)
        elif name == "source" and self.picture:
            self.source(attributes(written))
        elif name == "figure":
            self.figures.append(_Figure())
        elif name == "figcaption":
            self.captions.append(self.figures[-1] if self.figures else None)
            if self.figures:
                self.figures[-1].open_captions += 1
        elif name == "base" and not self.based:
            self.set_base(attributes(written))
        elif name == "meta":
            self.meta(attributes(written))
        elif name == "html" and not self.page.language:
            found = attributes(written)
            self.set_language(found.get("lang") or found.get("xml:lang") or "")

    # -- images

    def image(self, found: dict[str, str]) -> None:
        counts = self.page.counts
        counts["mentions"] += 1
        if len(self.images) >= self.max_images:
            counts["bad_mentions:page_cap"] += 1
            return
        urls, reason = self.urls_of(found)
        if not urls:
            counts[f"bad_mentions:{reason}"] += 1
            return
        if self.figures:
            self.figures[-1].images.append(len(self.images))
        image = _Image(urls, [])
        for source in TEXT_ATTRIBUTES:
            if found.get(source):
                self.add_text(image, source, unescape(found[source], attribute=True))
        self.images.append(image)

    def source(self, found: dict[str, str] | None) -> None:
        """A <source> for the next image; None: what the last ones said is for no image."""
        best = ("", 0.0) if found is None else max(self.best_source, best_of_sets(found), key=lambda one: one[1])
        self.best_source = best

    def urls_of(self, found: dict[str, str]) -> tuple[tuple[str, ...], str]:
        """The canonical addresses of an image, at most two; or none and the reason its first address is refused for."""
        has_lazy = not found.keys().isdisjoint(LAZY)
        lazy = next((found[name] for name in LAZY if found.get(name, "").strip()), "") if has_lazy else ""
        written = [unescape(lazy or found.get("src", ""), attribute=True)]
        best, self.best_source = max(best_of_sets(found), self.best_source, key=lambda one: one[1])[0], ("", 0.0)
        if best:
            written.append(best)
        else:
            url, reason = resolve(self.base, written[0])
            return ((url,), "") if url else ((), reason)
        answers = [resolve(self.base, href) for href in written]
        urls = tuple(dict.fromkeys(url for url, _ in answers if url))
        reasons = [reason for url, reason in answers if not url]
        return urls, next((reason for reason in reasons if reason != "no_url"), "no_url")

    def add_text(self, image: _Image, source: str, text: str) -> None:
        text, reason = visible(text, self.max_text_chars)
        if reason:
            self.page.counts[f"bad_texts:{reason}"] += 1
        elif text.strip():
            image.texts.append((source, text))

    # -- figures

    def add_caption(self, figure: _Figure, text: str) -> None:
        if text and figure.chars <= 8 * self.max_text_chars:  # white space may still shrink it below the limit
            figure.chars += len(text)
            figure.written.append(text)

    def close(self, name: str) -> None:
        """The innermost open figure or figcaption ends."""
        if name == "figure":
            figure = self.figures.pop()
            for position in figure.images if figure.caption else ():
                self.add_text(self.images[position], "figcaption", figure.caption)
        elif (owner := self.captions.pop()) is not None:
            owner.open_captions -= 1
            if not owner.open_captions:
                owner.caption = owner.caption or " ".join(unescape("".join(owner.written)).split())
                owner.written, owner.chars = [], 0

    # -- the page

    def set_base(self, found: dict[str, str]) -> None:
        href = unescape(found.get("href", ""), attribute=True).strip()
        if not href:
            return
        self.based = True
        url, reason = resolve(self.page_url, href)
        if url:
            self.base = url
        elif reason == "bad_scheme" and not href.lower().startswith("javascript:"):
            self.base = href  # file: and the like: every relative address of the page is refused, as browsers do

    def meta(self, found: dict[str, str]) -> None:
        name = (found.get("name") or found.get("property") or found.get("http-equiv") or "").strip().lower()
        content = unescape(found.get("content", "")[:_MAX_META_CHARS], attribute=True).strip().lower()
        if name == "content-language" and "," not in content and not self.page.language:
            self.set_language(content)
        elif name == "tdm-reservation":
            self.robots[f"tdm-reservation: {content}"] = None
        elif name == "x-robots-tag" or _ROBOT.fullmatch(name[:40]):
            prefix = "" if name in ("robots", "x-robots-tag") else f"{name}: "
            for token in content.split(","):
                token = visible(" ".join(token.split()), _MAX_META_CHARS)[0]
                if token:
                    self.robots[prefix + token] = None

    def set_language(self, text: str) -> None:
        text = unescape(text[: 2 * _MAX_LANGUAGE_CHARS], attribute=True).strip()
        self.page.language = visible(text, _MAX_LANGUAGE_CHARS)[0]

    def finish(self) -> None:
        """Lists each (address, texts) once: the <noscript> copy of a lazy image says nothing new."""
        merged: dict[str, dict[tuple[str, str], None]] = {}
        for image in self.images:
            for url in image.urls:
                merged.setdefault(url, {}).update(dict.fromkeys(image.texts))
        self.page.mentions = [Mention(url, tuple(texts)) for url, texts in merged.items()]
        self.page.robots = tuple(self.robots)


def read_page(text: str, page_url: str, *, max_images: int = 2000, max_text_chars: int = 8192) -> Page:
    """The images that a page at the canonical url `page_url` mentions, once per address. Never raises."""
    reading = PageReading(page_url, max_images, max_text_chars)
    reading.read(text)
    return reading.page
