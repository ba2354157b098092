"""A process is found again by its number and its start, and no other one is taken for it."""

import dataclasses
import os
import subprocess
import sys

import pytest

from pipeline.cluster.node.alive import Process
from pipeline.errors import DataError


def test_a_process_is_alive_until_it_ends_also_as_a_zombie():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    named = Process.parse(str(Process.of(child.pid)))
    assert named.is_here() and named.is_alive()
    assert not dataclasses.replace(named, began="1").is_alive()  # the number was given to another one
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not named.is_alive()
    child.wait()
    assert not named.is_alive()


def test_a_word_that_is_none_is_refused():
    with pytest.raises(DataError):
        Process.parse("4711 maybe")
