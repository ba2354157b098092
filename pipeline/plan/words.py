"""Numbers with their units, for a person."""

GIB = 1 << 30


def gib_text(size: float) -> str:
    """Of memory: 12.3 GiB."""
    return f"{size / GIB:.3g} GiB" if size >= GIB / 100 else f"{size / (1 << 20):.3g} MiB"


def bytes_text(size: float) -> str:
    """Of files and what travels, powers of 1000: 12.3 GB."""
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if abs(size) < 999.5 or unit == "PB":
            return f"{size:.3g} {unit}"
        size /= 1000
    raise AssertionError


def share_text(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f}%" if whole else "0%"


def time_text(seconds: float) -> str:
    """In the unit that reads best: 210 ms, 4.2 s, 12 min, 3.4 h, 5.1 days."""
    for limit, unit, size in ((1, "ms", 1e-3), (120, "s", 1), (7200, "min", 60), (48 * 3600, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86_400:.3g} days"


def count_text(number: float) -> str:
    """8,082; from a million on 1.2e+07 as 12.3 million."""
    for limit, word, size in ((1e6, "", 1), (1e9, " million", 1e6), (1e12, " billion", 1e9)):
        if number < limit:
            return f"{round(number):,}" if size == 1 else f"{number / size:.4g}{word}"
    return f"{number / 1e12:.4g} trillion"
