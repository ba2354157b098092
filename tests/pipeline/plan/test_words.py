"""Numbers with their units."""

import pytest

from pipeline.plan import words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0042, "4.2 ms"),
        (1.5, "1.5 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7200, "2 h"),
        (172_800, "2 days"),
        (0, "0 ms"),
    ],
)
def test_times(seconds: float, text: str) -> None:
    assert words.time_text(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(12, "12 B"), (999, "999 B"), (999.6, "1 kB"), (1.8154e9, "1.82 GB"), (4.5e18, "4.5e+03 PB")]
)
def test_bytes(size: float, text: str) -> None:
    assert words.bytes_text(size) == text


def test_memory() -> None:
    assert (words.gib_text(75 << 30), words.gib_text(3 << 20)) == ("75 GiB", "3 MiB")


@pytest.mark.parametrize(
    ("number", "text"),
    [(8082, "8,082"), (999_999, "999,999"), (151_277_313, "151.3 million"), (12.8e9, "12.8 billion")],
)  # fmt: skip
def test_counts(number: float, text: str) -> None:
    assert words.count_text(number) == text
