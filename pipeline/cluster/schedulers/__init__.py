"""Schedulers by name: what `submit --on` may say."""

from pipeline.cluster.schedulers.k8s import K8s
from pipeline.cluster.schedulers.local import Local
from pipeline.cluster.schedulers.scheduler import JOB_STATES, Job, Request, Said, Scheduler
from pipeline.cluster.schedulers.slurm import Slurm

SCHEDULERS: dict[str, Scheduler] = {
    "local": Local(),
    "slurm": Slurm(),
    "k8s": K8s(),
}

__all__ = ["JOB_STATES", "SCHEDULERS", "Job", "Request", "Said", "Scheduler"]
