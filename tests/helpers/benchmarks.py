"""What lies in benchmarks/ for several of them, which run with that folder on the path."""

import importlib
import sys
from typing import Any

from tests.helpers.places import ROOT


def imported(name: str) -> Any:
    if str(ROOT / "benchmarks") not in sys.path:
        sys.path.append(str(ROOT / "benchmarks"))
    return importlib.import_module(name)
