"""Loggers. Configured once by the command line; nothing happens at import."""

import logging
import sys

_NAME = "clipmill"


def get_logger(name: str) -> logging.Logger:
    """A logger under `clipmill`; silent until `configure` is called by a command."""
    return logging.getLogger(f"{_NAME}.{name}")


def configure(rank: int = 0, verbose: bool = False) -> None:
    """Write to stderr: rank 0 from INFO (DEBUG when verbose), other ranks warnings only, each naming its rank."""
    root = logging.getLogger(_NAME)
    root.handlers.clear()
    handler = logging.StreamHandler(sys.stderr)
    prefix = "" if rank == 0 else f"[rank {rank}] "
    handler.setFormatter(logging.Formatter(f"{prefix}%(message)s"))
    root.addHandler(handler)
    root.propagate = False
    root.setLevel((logging.DEBUG if verbose else logging.INFO) if rank == 0 else logging.WARNING)
