"""Where things lie, for tests at any depth."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"  # development data beside the checkout; tests that use it skip where it is absent
