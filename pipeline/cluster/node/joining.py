"""Several nodes as one Ray for a curation: the head on node 0, the others join it, and all end with it.

Nothing is started that outlives the wrapper: Ray's servers are its descendants, and are killed with the attempt.
"""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.cluster.node.place import Place
from pipeline.cluster.node.stage import descendants, reap
from pipeline.cluster.node.verdict import Verdict, read_verdict
from pipeline.cluster.rundir import RunDir, control, lock
from pipeline.errors import ClipmillError
from pipeline.settings import digest_of

_RAY = (sys.executable, "-m", "ray.scripts.scripts", "start", "--disable-usage-stats")
_LOOK_S = 1.0
_SECRET = "ray.token"


@dataclass(frozen=True)
class Joining:
    """What a node needs to know to make one Ray with the others. `address`: of the head, host:port. `asked`: whether
    a signal has asked this node to stop."""

    run: RunDir
    attempt: int
    place: Place
    address: str
    variables: Mapping[str, str]
    asked: Callable[[], bool]

    @property
    def log(self) -> Path:
        return self.run.log(self.attempt, self.place.rank)

    def note(self, node: int) -> Path:
        return self.run.attempt_logs(self.attempt) / f"{node}.joined"

    def session_folder(self) -> str:
        """Of Ray, on each node: short, for Unix sockets, and of this attempt alone."""
        return f"/tmp/ray_{os.getuid()}_{digest_of([str(self.run.path), self.attempt])[:8]}"

    def clean(self) -> None:
        """Once all its processes have ended."""
        shutil.rmtree(self.session_folder(), ignore_errors=True)


def head(joining: Joining) -> dict[str, str]:
    """Starts the head and waits for the other nodes; the variables by which the driver finds it. ClipmillError when a
    node does not join in time."""
    host, _, port = joining.address.rpartition(":")
    variables = {**joining.variables, **_secret(joining.run, make=True)}
    where = (f"--node-ip-address={_ip_of(host)}", f"--port={port}", f"--temp-dir={joining.session_folder()}")
    _start(joining, variables, "--head", "--include-dashboard=false", *where)
    joining.note(0).touch()
    missing = set(range(1, joining.place.nodes))
    deadline = time.monotonic() + joining.place.join_s
    while missing and not joining.asked():
        missing = {node for node in missing if not joining.note(node).exists()}
        if missing and time.monotonic() > deadline:
            hint = "see the logs of those nodes; set CLIPMILL_JOIN_S where nodes start at very different times"
            found = f"nodes {sorted(missing)} have not joined Ray within {joining.place.join_s:.0f} s"
            raise ClipmillError(joining.address, found, f"{joining.place.nodes} nodes", hint)
        time.sleep(_LOOK_S if missing else 0)
    return {**variables, "RAY_ADDRESS": joining.address}


def worker(joining: Joining) -> Verdict:
    """Joins the head, works for it until node 0 says how the attempt ended, and says the same. A signal here asks the
    whole attempt to stop."""
    deadline, told = time.monotonic() + joining.place.join_s, False
    while not joining.note(0).exists() and not joining.asked() and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
    variables = {**joining.variables, **_secret(joining.run, make=False)}
    _start(joining, variables, f"--address={joining.address}")
    joining.note(joining.place.rank).touch()
    while True:
        found = read_verdict(joining.run, joining.attempt, 0)
        if found is not None:
            return found
        if joining.asked() and not told:
            control.ask(joining.run, "stop", by="")
            told = True
        newer = lock.overtaken(joining.run, joining.attempt)
        if newer is not None:
            return Verdict("failed", "crash", f"{newer} has taken over")
        if not descendants():
            return Verdict("failed", "crash", "Ray has ended on this node")
        reap()
        time.sleep(_LOOK_S)


def _start(joining: Joining, variables: Mapping[str, str], *words: str) -> None:
    """Ray's servers go on when this returns."""
    with open(joining.log, "ab") as output:
        done = subprocess.run(
            [*_RAY, *words], env=dict(variables), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    if done.returncode:
        found = f"Ray did not start on node {joining.place.rank} (code {done.returncode})"
        raise ClipmillError(joining.address, found, "a node of the cluster", f"see {joining.log}")


def _secret(run: RunDir, make: bool) -> dict[str, str]:
    """What only processes of this run know, so that nobody else on the network can give the cluster work to do; the
    user's own token where there is one."""
    if os.environ.keys() & {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"}:
        return {}
    path = run.path / _SECRET
    if make:
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": path.read_text()}


def _ip_of(host: str) -> str:
    try:
        return socket.gethostbyname(host)
    except OSError as error:
        hint = "export CLIPMILL_MASTER_ADDR=<an address of node 0 that the others can reach>"
        raise ClipmillError(host, f"has no address: {error}", "the name of node 0", hint) from None


def own_address() -> str:
    return socket.gethostname()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]
