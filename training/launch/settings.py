"""The `launch` section of a recipe: the processes of `train` and `eval` on this machine."""

from pydantic import Field

from pipeline.settings import Settings


class LaunchSettings(Settings):
    """Processes started on this machine. Under torchrun or srun theirs are joined instead."""

    processes: int | None = Field(None, ge=1, le=4096, description="default: one for each GPU, else 1")
    threads: int | None = Field(
        None, ge=1, le=4096, description="torch threads of a process; default: the cores shared out"
    )
    timeout_s: float = Field(1800.0, gt=0, le=10**7, description="longest wait of a rank for the others")
