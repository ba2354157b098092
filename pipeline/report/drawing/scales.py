"""Axes: where a value lands on the picture, and which round values get a label."""

import math
from dataclasses import dataclass

_LEAST, _MOST = -307.0, 308.25  # powers of ten that are numbers


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] to [start, end] picture units, linearly or by logarithm (then low > 0)."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, self.low))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, wanted: int = 5) -> list[float]:
        return log_ticks(self.low, self.high, wanted) if self.log else linear_ticks(self.low, self.high, wanted)


def padded(low: float, high: float, *, log: bool = False, zero: bool = False) -> tuple[float, float]:
    """A range that holds the data with a little air, never empty."""
    if log:
        low, high = math.log10(low), math.log10(high)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 1e-12 * max(abs(low), abs(high), 1e-300) or high == low:
        air = 0.5 if log or not high else abs(high) * 0.1
        low, high = low - air * (not (zero and low == 0)), high + air
    else:
        air = 0.05 * (high - low)
        low, high = (low if zero and low == 0 else low - air), high + air
    return (10 ** max(low, _LEAST), 10 ** min(high, _MOST)) if log else (low, high)


def linear_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten inside [low, high], about `wanted` of them."""
    raw = (high - low) / max(wanted, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{i * step:.10g}") for i in range(first, last + 1)]


def log_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Powers of ten inside [low, high]; 2 and 5 times them too when the range is short."""
    first, last = math.floor(math.log10(low)), min(math.ceil(math.log10(high)), math.floor(_MOST))
    powers = [10.0**e for e in range(first, last + 1)]
    inside = [p for p in powers if low <= p <= high]
    if len(inside) < 3:
        inside = [m * p for p in powers for m in (1, 2, 5) if low <= m * p <= high]
    every = max(1, math.ceil(len(inside) / max(wanted, 1)))
    return [float(f"{value:.10g}") for value in inside[::every]]
