"""Curates in processes of their own, to be killed.

python -m tests.helpers.curate_child settings.json   once
python -m tests.helpers.curate_child [--with MODULE] once per line (a path) on stdin, each in a fork of this one,
                                                     which has imported everything; prints pid, then exit status
"""

import importlib
import json
import os
import sys

from curation.runner.driver import curate
from curation.settings import CurateSettings
from pipeline.errors import ClipmillError


def run(path: str) -> int:
    with open(path) as file:
        settings = CurateSettings.model_validate(json.load(file))
    try:
        manifest = curate(settings, name="test", seed=3)
    except ClipmillError as error:
        print(error, flush=True)
        return error.exit_code
    print(manifest.digest(), flush=True)
    return 0


def serve() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.dup2(2, 1)  # stdout is the server's
            os._exit(run(line.strip()))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        serve()
    elif sys.argv[1] == "--with":
        importlib.import_module(sys.argv[2])
        serve()
    else:
        sys.exit(run(sys.argv[1]))
