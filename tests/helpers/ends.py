"""Work that ends. What takes minutes or hours where a step is quadratic is told from what a slow machine does by a wide
margin, never by a measurement: such inputs take a second or two, and a machine may be twenty times slower."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ends(limit_s: float = 60) -> Iterator[None]:
    """Processor time, so that what runs beside it does not count."""
    start = time.process_time()
    yield
    assert time.process_time() - start < limit_s
