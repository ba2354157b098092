"""Where things lie, for tests at any depth."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
_DATA = ROOT.parent / "shared/data"  # of the developers, beside the checkout


def shared_files(pattern: str) -> list[Path]:
    """The development data of that pattern; the test is skipped, saying so, where there are none."""
    found = sorted(_DATA.glob(pattern))
    if not found:
        pytest.skip(_needs(pattern))
    return found


def shared_params(pattern: str) -> list[Any]:
    """As `shared_files`, to parametrise by."""
    return sorted(_DATA.glob(pattern)) or [pytest.param(Path(pattern), marks=pytest.mark.skip(_needs(pattern)))]


def _needs(pattern: str) -> str:
    return f"needs ../shared/data/{pattern} beside the repository"


def tool(name: str) -> str | None:
    """A program that a package has put beside Python, whether or not that folder is on PATH, or one of the machine."""
    return shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
