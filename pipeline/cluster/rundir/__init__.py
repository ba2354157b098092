"""The run directory: what scheduler, program and user agree by. The same on a laptop, on SLURM and on Kubernetes.

    <run>/run.yaml            the recipe, frozen: overrides and variables applied, outputs settled
          run.json            run id, recipe digest, versions of packages, git revision, folder it was submitted from
          state.json          where the run stands; written by rank 0's side only
          attempts.jsonl      one object per submission, per start and per end of an attempt
          heartbeat           rewritten by rank 0 at every step
          control/{stop,cancel,save}
          lock                which attempt the run belongs to: the newest
          logs/<attempt>/<node>.log

It lies on a file system that all nodes share (NFS, Lustre, a volume that many may mount). Every file but the logs is
replaced by a rename, so nobody reads half of one; no lock of the file system is relied on.
"""

from pipeline.cluster.rundir.create import create, frozen, open_run
from pipeline.cluster.rundir.paths import STAGES, RunDir
from pipeline.cluster.rundir.state import State, read_state, write_state

__all__ = ["STAGES", "RunDir", "State", "create", "frozen", "open_run", "read_state", "write_state"]
