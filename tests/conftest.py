"""What holds for every test: the lanes, and how many examples hypothesis draws in each.

quick       `make quick`: not those marked `slow` or `exhaustive`
default     `make test`: not those marked `exhaustive`; of a product of cases a sample (tests/helpers/lanes.py)
exhaustive  `make exhaustive`: those marked so, and every test of hypothesis with all its examples
"""

from collections import Counter

import pytest
from hypothesis import settings

# No test times anything: on a busy machine hypothesis' own limit of 200 ms an example would.
settings.register_profile("clipmill", deadline=None, max_examples=40)
settings.register_profile("exhaustive", deadline=None, max_examples=200)
settings.load_profile("clipmill")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: a file stays on one process, and none shall be left over for the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
