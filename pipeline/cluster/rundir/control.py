"""control/{stop,cancel,save}: what a person or a scheduler asks of a run that is under way, or will be.

stop      save and stop. An empty file (a scheduler's `touch`: preemption, the time limit) is for the attempt under way
          and gone when the next one starts. One with a word in it (`clipmill stop`) holds until the run is submitted.
cancel    never again: attempts end before they begin until the run is submitted with --uncancel.
save      a checkpoint now, and on; gone when it is committed.
"""

from typing import Literal

from pipeline import storage
from pipeline.cluster.rundir.paths import RunDir

Word = Literal["stop", "cancel", "save"]
BY_USER = "user"


def ask(run: RunDir, word: Word, by: str = BY_USER) -> None:
    storage.publish_bytes(str(run.control / word), f"{by}\n".encode() if by else b"")


def asked(run: RunDir, word: Word) -> str | None:
    """Who asked ("" where nobody said), None when nobody did. The file is opened: NFS remembers that one was absent."""
    try:
        with open(run.control / word, "rb") as file:
            return file.read(200).decode(errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError:  # the store is away for a moment: asked again in moments
        return None


def clear(run: RunDir, word: Word) -> None:
    storage.remove(str(run.control / word))


def held(run: RunDir) -> str:
    """Why no attempt may begin: "cancelled", "stopped by user", or ""."""
    if asked(run, "cancel") is not None:
        return "cancelled"
    by = asked(run, "stop")
    return f"stopped by {by}" if by else ""
