#!/usr/bin/env bash
# Is this node fit to work? Run by the job on each of its nodes; the last line is "fit", or what is wrong.
#   srun bash slurm/preflight.sh RUN_DIR [SECONDS_OF_THE_CLOCK_ELSEWHERE]
set -uo pipefail
run=${1:?the run directory} elsewhere=${2:-}

unfit() {
  echo "$*"
  exit 1
}

free_gb() { df -Pk "$1" 2>/dev/null | awk 'NR == 2 { print int($4 / 1048576) }'; }

# Each look may hang on a sick node: a disk that is gone, a driver that waits.
look() { timeout 30 "$@"; }

gpus=0
if [ "${CLIPMILL_GPUS_PER_NODE:-${SLURM_GPUS_ON_NODE:-0}}" != 0 ] && command -v nvidia-smi >/dev/null; then
  wanted=${CLIPMILL_GPUS_PER_NODE:-$SLURM_GPUS_ON_NODE}
  gpus=$(look nvidia-smi --query-gpu=index --format=csv,noheader | wc -l)
  [ "$gpus" -ge "$wanted" ] || unfit "GPUs: $gpus of $wanted answer"
  errors=$(look nvidia-smi --query-gpu=ecc.errors.uncorrected.volatile.total --format=csv,noheader,nounits |
    awk '/^[0-9]+$/ { sum += $1 } END { print sum + 0 }')
  [ "$errors" = 0 ] || unfit "GPU memory: $errors uncorrected errors since the last reset"
  pending=$(look nvidia-smi --query-remapped-rows=remapped_rows.pending --format=csv,noheader | grep -ci yes)
  [ "$pending" = 0 ] || unfit "GPU memory: rows wait to be remapped by a reset"
fi

shm=$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 { print int($4 / 1024) }')
[ "${shm:-0}" -ge "$((${CLIPMILL_MIN_SHM_GB:-1} * 1024))" ] ||
  unfit "/dev/shm: ${shm:-no} MB free, CLIPMILL_MIN_SHM_GB is ${CLIPMILL_MIN_SHM_GB:-1}"

tmp=$(free_gb "${TMPDIR:-/tmp}")
[ "${tmp:-0}" -ge "${CLIPMILL_MIN_TMP_GB:-1}" ] ||
  unfit "${TMPDIR:-/tmp}: ${tmp:-no} GB free, CLIPMILL_MIN_TMP_GB is ${CLIPMILL_MIN_TMP_GB:-1}"

mine="$run/logs/.preflight-$(hostname)-$$"
# shellcheck disable=SC2016
look bash -c 'echo fit >"$1" && sync "$1" && grep -q fit "$1"' - "$mine" 2>/dev/null ||
  unfit "$run: cannot be written and read here"
rm -f "$mine"

if [ -n "$elsewhere" ]; then
  skew=$(($(date +%s) - elsewhere))
  [ "${skew#-}" -le "${CLIPMILL_MAX_CLOCK_SKEW_S:-30}" ] || unfit "clock: $skew s from that of the job's first node"
fi
echo fit
