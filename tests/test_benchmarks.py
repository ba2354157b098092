"""Every benchmark finds what it is made of, and the README says how to start it."""

import pytest

from tests.helpers.benchmarks import imported
from tests.helpers.places import ROOT

FILES = sorted((ROOT / "benchmarks").glob("*.py"))
COMMANDS = [path for path in FILES if '__name__ == "__main__"' in path.read_text()]


@pytest.mark.parametrize("name", [path.stem for path in FILES])
def test_a_benchmark_can_be_imported(name):
    assert hasattr(imported(name), "main") == (name in {path.stem for path in COMMANDS})


def test_each_command_is_in_the_readme():
    words = (ROOT / "benchmarks/README.md").read_text()
    assert len(COMMANDS) > 10
    assert [path.name for path in COMMANDS if f"python benchmarks/{path.name}" not in words] == []
