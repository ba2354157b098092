# shellcheck shell=bash
# The one file to edit for your site: every job file reads it, on the node where the job's shell runs.
# Each value can be set from outside as well: export it before sbatch, or sbatch --export=ALL,NAME=value.

# Where clipmill is installed, on a file system that all nodes see: a virtual environment, here by default the one
# that `make setup` leaves in the checkout. In a container (CLIPMILL_SRUN_FLAGS) set it to "" instead.
CLIPMILL_VENV="${CLIPMILL_VENV-$CLIPMILL_SLURM_DIR/../.venv}"
if [ -f "$CLIPMILL_VENV/bin/activate" ]; then
  PATH="$CLIPMILL_VENV/bin:$PATH"
fi
# module load cuda/12.4

# Flags of srun for your site: a container, a network, a partition's quirks.
#   CLIPMILL_SRUN_FLAGS="--container-image=/images/clipmill.sqsh --container-mounts=/lustre"    (Pyxis)
CLIPMILL_SRUN_FLAGS="${CLIPMILL_SRUN_FLAGS:-}"

# Nodes that you ask for beyond those the run needs: sbatch --nodes=9 with CLIPMILL_SPARES=1 trains on 8, the healthy ones.
CLIPMILL_SPARES="${CLIPMILL_SPARES:-0}"

# Seconds that a run told to stop may take to save, before its processes are ended. Keep it below the N of
# --signal=B:USR1@N in the job files, and below the GraceTime of a partition that is preempted.
CLIPMILL_GRACE_S="${CLIPMILL_GRACE_S:-240}"

# What preflight.sh asks of each node.
CLIPMILL_MIN_SHM_GB="${CLIPMILL_MIN_SHM_GB:-1}"          # /dev/shm: the readers' workers hand their batches over in it
CLIPMILL_MIN_TMP_GB="${CLIPMILL_MIN_TMP_GB:-1}"          # free in ${TMPDIR:-/tmp}
CLIPMILL_MAX_CLOCK_SKEW_S="${CLIPMILL_MAX_CLOCK_SKEW_S:-30}"
CLIPMILL_ALL_REDUCE="${CLIPMILL_ALL_REDUCE:-auto}"       # a short one over all chosen nodes: yes, no, auto (with GPUs)

# Network. Say here which interfaces carry training; nothing is assumed.
#   export NCCL_SOCKET_IFNAME=ib0 GLOO_SOCKET_IFNAME=ib0 NCCL_IB_HCA=mlx5 NCCL_DEBUG=WARN
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

export PATH CLIPMILL_VENV CLIPMILL_GRACE_S CLIPMILL_MIN_SHM_GB CLIPMILL_MIN_TMP_GB CLIPMILL_MAX_CLOCK_SKEW_S
