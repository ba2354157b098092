"""Numbers and untrusted words as a person reads them. A printed number carries its exact value in `<data value>`."""

import math
import re

from markupsafe import Markup, escape

from pipeline import storage

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]+")  # direction marks, too
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\ud800-\udfff\U000e0000-\U000e007f]"
)
_RANKED = re.compile(r"(?:^|_)(i2t|t2i)_r(?:ecall)?@?(\d+)$")
_TOP = re.compile(r"(?:acc|acc@|top|top@)_?(\d+)$")


def count_text(value: float) -> str:
    """8082 -> 8,082."""
    return f"{round(value):,}"


def share_text(part: float, whole: float) -> str:
    """A percentage that never rounds something to nothing: 3 of 10,000 -> 0.03%, 1 of a million -> <0.01%."""
    if not whole or not part:
        return "0%"
    percent = 100 * part / whole
    if percent and abs(percent) < 0.01:
        return "<0.01%"
    text = f"{percent:.{1 if abs(percent) >= 1 else 2}f}%"
    if text != "100.0%":
        return text
    return "100%" if part == whole else ">99.9%"


def bytes_text(value: float) -> str:
    """12345678 -> 12.3 MB (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} PB"


def number_text(value: float | None, digits: int = 3) -> str:
    """A measured number: fixed digits in the everyday range, `5e-4` style outside it."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    size = abs(value)
    if size < 10**-digits or size >= 1e7:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}".replace("-", "−")
    if size >= 1000 or (size >= 10 and value == round(value)):
        return count_text(value).replace("-", "−")
    return f"{value:.{min(digits, max(0, 3 - int(math.log10(size)))) if size >= 10 else digits}f}".replace("-", "−")


def tick_text(value: float) -> str:
    """An axis label: 0.5, 20, 1k, 250k, 1e-5."""
    size = abs(value)
    if size and (size < 1e-3 or size >= 1e10):
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}".replace("-", "−")
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= unit:
            return f"{value / unit:.10g}{name}".replace("-", "−")
    return f"{value:.10g}".replace("-", "−")


def cut_text(value: float) -> str:
    """A threshold beside its line: four digits."""
    return tick_text(float(f"{value:.4g}"))


def _data(value: float, text: str) -> Markup:
    return Markup('<data value="{}">{}</data>').format(value, text)


def count(value: int) -> Markup:
    return _data(value, count_text(value))


def share(part: float, whole: float) -> Markup:
    return _data(part / whole if whole else 0, share_text(part, whole))


def size(value: int) -> Markup:
    return _data(value, bytes_text(value))


def number(value: float | None, digits: int = 3) -> Markup:
    return escape("–") if value is None else _data(value, number_text(value, digits))


def figure(value: float | None) -> Markup:
    """A whole number as a count, any other as a number."""
    return count(value) if isinstance(value, int) else number(value)


def plain(text: str | None, limit: int = 240) -> str:
    """Untrusted words for an attribute: control characters cut, length capped. Not escaped yet."""
    words = _CONTROL.sub(" ", (text or "")[: 8 * limit + 1]).strip()
    return words if len(words) <= limit else words[: limit - 1].rstrip() + "…"


def said(text: str | None, limit: int = 240) -> Markup:
    """Untrusted words for the page: as `plain`, escaped, and with their writing direction kept to themselves."""
    return Markup("<bdi>{}</bdi>").format(plain(text, limit))


def seen(text: str | None, limit: int = 240) -> Markup:
    """As `said`, for words of which everything must be seen: what turns the direction of writing, joins or has no width
    stands as its number; lines stay."""
    words = (text or "").strip()
    words = words if len(words) <= limit else words[: limit - 1].rstrip() + "…"
    return Markup("<bdi>{}</bdi>").format(_UNSEEN.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", words))


def lines(text: str | None, limit: int = 240) -> Markup:
    """As `said`, for words whose lines matter."""
    rows = (text or "")[: 8 * limit].splitlines()
    return Markup("<bdi>{}</bdi>").format(plain_lines(rows, limit))


def plain_lines(rows: list[str], limit: int) -> str:
    kept, left = [], limit
    for row in rows:
        if left <= 0:
            kept.append("…")
            break
        kept.append(plain(row, left))
        left -= len(kept[-1]) + 1
    return "\n".join(kept)


def place(url: str | None) -> str:
    """A path or URL without what may be secret in it: credentials, query, fragment."""
    try:
        return storage.shown(url or "")
    except ValueError:
        return "(unreadable address)"


def words_of(identifier: str) -> str:
    """`not_an_image` -> `not an image`."""
    return identifier.replace("_", " ").strip() or identifier


def metric_name(metric: str) -> str:
    """`i2t_r10` -> `image-to-text R@10`; an unknown metric keeps its words."""
    if match := _RANKED.search(metric):
        way = "image-to-text" if match.group(1) == "i2t" else "text-to-image"
        return f"{way} R@{match.group(2)}"
    if match := _TOP.fullmatch(metric):
        return f"top-{match.group(1)} accuracy"
    return words_of(metric)
