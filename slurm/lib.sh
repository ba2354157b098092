# shellcheck shell=bash
# What the shell of a job does around its work; sourced by the job files, which then call `run_stage STAGE RECIPE ...`.
#
#   start    completed before: exit 0.  Cancelled: exit 1.  A stop that an earlier attempt left: forgotten.
#   choose   preflight.sh on every node; the run gets the first healthy ones, spares stand in for the others
#   launch   `clipmill node RUN_DIR STAGE` once a node, by srun in the background; this shell waits and hears signals
#   decide   by RUN_DIR/state.json, never by srun's exit status alone (a task killed for another's failure has one too):
#            completed 0 | cancelled 1, never again | stopped for SLURM: requeue | stopped by the user 75
#            configuration or data 78, never again | unfit node or crash: again in this allocation, then requeue
#
# A node that is lost needs no code: SLURM requeues the job (--requeue) and it starts here again. Where a job may not be
# requeued (--no-requeue, or a site's rule) it queues another one at its start that waits for its end (`queue_successor`).
# Signals: USR1 says that SLURM is about to end the job (time limit, preemption): save, then requeue. TERM with no USR1
# before it is scancel: save, and never requeue; SLURM itself still requeues a job that it preempts without USR1.

told=0 cancelled=0 interrupted=0 asking="" SUCCESSOR="" goes_on=0

say() { echo "$(date -u +%FT%TZ) job $SLURM_JOB_ID${RESTARTS:+.$RESTARTS}: $*"; }

fail() { # fail CODE WORDS: the end of this job
  local code=$1
  shift
  say "error: $*" >&2
  exit "$code"
}

on_usr1() {
  interrupted=1 told=1
  say "USR1: SLURM is about to end this job; the run saves, to go on"
  ask_to_stop
}

on_term() {
  interrupted=1
  if ((told)); then
    say "TERM: the time to save is nearly over"
  elif [ -n "$SUCCESSOR" ] && taken_away; then
    told=1
    say "TERM: SLURM takes the nodes away; the run saves and job $SUCCESSOR goes on"
  else
    cancelled=1
    drop_successor # at once: soon this shell is killed
    say "TERM: cancelled, or a node is lost, which SLURM sees to; the run saves and is not requeued from here"
  fi
  ask_to_stop
}

# Rank 0 looks for this file. Ours is empty and for this attempt alone; that of `clipmill stop` has a word in it.
# An attempt that has just begun takes it for that of the attempt before, so it is asked until the attempt is over.
ask_to_stop() {
  if [ -n "${SHARE:-}" ]; then # an element of an array: its own step, no other's
    scancel --signal=TERM "$ME.0"
    return
  fi
  [ -n "${RUN_DIR:-}" ] || return 0
  touch "$RUN_DIR/control/stop" 2>/dev/null
  [ -n "$asking" ] && return 0
  while sleep 5; do touch "$RUN_DIR/control/stop"; done 2>/dev/null &
  asking=$!
}

ask_no_more() {
  [ -z "$asking" ] || kill "$asking" 2>/dev/null
  asking=""
}

forget_stop() { user_stopped || rm -f "$RUN_DIR/control/stop"; }

user_stopped() { [ -s "$RUN_DIR/control/stop" ]; }

state() { # state KEY: its value in state.json, "" where there is none
  python3 - "$RUN_DIR/state.json" "$1" <<'PYTHON' 2>/dev/null || true
import json, sys
value = json.load(open(sys.argv[1])).get(sys.argv[2])
print("" if value is None else value)
PYTHON
}


run_stage() { # run_stage STAGE RUN_DIR | run_stage STAGE RECIPE [overrides]
  STAGE=$1
  shift
  RESTARTS=${SLURM_RESTART_COUNT:-0}
  trap on_usr1 USR1
  trap on_term TERM
  # shellcheck source=slurm/env.sh
  source "$CLIPMILL_SLURM_DIR/env.sh"
  find_run_dir "$@"
  begin
  may_be_requeued || queue_successor || true
  local launches=0
  while :; do
    choose_nodes
    all_reduce
    ((told || cancelled)) && break # while nodes were looked at
    launch "$launches"
    decide "$launches" || break
    launches=$((launches + 1))
    say "again in this allocation ($launches)"
  done
  leave
}

# In an array the number of the job may be that of the whole array, too.
ME=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
ME=${ME:-$SLURM_JOB_ID}

prepare() { (cd "$SLURM_SUBMIT_DIR" && clipmill submit "$@" --on slurm --dry-run); }

find_run_dir() { # made by the first start of the job, which notes it in the job's comment for those after a requeue
  [ $# -gt 0 ] || fail 2 "no recipe; type: sbatch slurm/$STAGE.sbatch RECIPE [dotted.key=value ...]"
  RUN_DIR=""
  if [ -f "$1/run.yaml" ]; then
    RUN_DIR=$(cd "$1" && pwd)
  elif ((RESTARTS > 0)); then
    RUN_DIR=$(scontrol show job "$ME" | sed -n 's/^ *Comment=clipmill://p' | sed 's/ *$//')
  fi
  if [ -z "$RUN_DIR" ]; then
    local said # of several elements of an array one makes it, and the others find it
    said=$(prepare "$@") || fail 78 "no run directory of $1"
    RUN_DIR=$(dirname "$(dirname "$(tail -n 1 <<<"$said")")") # it prints the files that it made, RUN_DIR/slurm/NAME
  fi
  [ -f "$RUN_DIR/run.yaml" ] || fail 78 "$RUN_DIR: no run.yaml in it; make it by: clipmill submit RECIPE --on slurm"
  scontrol update "jobid=$ME" "comment=clipmill:$RUN_DIR" || say "the job could not be given a comment"
  mkdir -p "$RUN_DIR/control" "$RUN_DIR/logs/slurm"
  say "$STAGE of $RUN_DIR on $SLURM_JOB_NODELIST"
}

begin() {
  if [ "$(state stage):$(state status)" = "$STAGE:completed" ]; then
    say "finished before, nothing to do"
    exit 0
  fi
  [ ! -e "$RUN_DIR/control/cancel" ] || fail 1 "cancelled; to go on: clipmill submit ... --uncancel"
  ! user_stopped || fail 75 "stopped by the user; to go on: clipmill submit again, or rm $RUN_DIR/control/stop"
  ((told || cancelled)) || forget_stop
}

choose_nodes() { # NODES: one name a line, the first is where rank 0 is; COUNT of them; BAD: those left out
  local all wanted name word folder="$RUN_DIR/logs/slurm/preflight-$SLURM_JOB_ID.$RESTARTS"
  all=$(scontrol show hostnames "$SLURM_JOB_NODELIST") || fail 71 "scontrol show hostnames $SLURM_JOB_NODELIST failed"
  [ -n "$all" ] || fail 71 "no names of nodes in SLURM_JOB_NODELIST"
  wanted=$(($(wc -l <<<"$all") - CLIPMILL_SPARES))
  ((wanted > 0)) || fail 78 "CLIPMILL_SPARES is $CLIPMILL_SPARES of $(wc -l <<<"$all") nodes; none is left to work on"
  mkdir -p "$folder"
  in_background srun --nodes="$(wc -l <<<"$all")" --ntasks-per-node=1 --overlap --kill-on-bad-exit=0 --wait=0 \
    --output="$folder/%N" bash "$CLIPMILL_SLURM_DIR/preflight.sh" "$RUN_DIR" "$(date +%s)"
  NODES="" BAD=""
  for name in $all; do
    word=$(tail -n 1 "$folder/$name" 2>/dev/null || true)
    if [ "$word" = "fit" ]; then
      NODES+="$name"$'\n'
    else
      BAD+="$name "
      say "$name is unfit: ${word:-said nothing}"
      echo "$(date -u +%FT%TZ) $SLURM_JOB_ID $name ${word:-said nothing}" >>"$RUN_DIR/unfit_nodes"
    fi
  done
  NODES=$(head -n "$wanted" <<<"${NODES%$'\n'}")
  COUNT=$(grep -c . <<<"$NODES" || true)
  ((told || cancelled)) && return
  if ((COUNT < wanted)); then
    say "$COUNT of $wanted nodes are fit"
    requeue_or_end "unfit nodes" 71
  fi
  HEAD=$(head -n 1 <<<"$NODES")
  [ -n "$(getent hosts "$HEAD")" ] || fail 71 "the address of $HEAD is not known on $(hostname)"
}

all_reduce() { # over the chosen nodes, before a run waits half an hour for one that cannot be reached
  ((told || cancelled)) && return
  [ "$STAGE" != curate ] && ((COUNT > 1)) || return 0
  case $CLIPMILL_ALL_REDUCE in
  yes) ;;
  auto) [ "${SLURM_GPUS_ON_NODE:-0}" != 0 ] && command -v nvidia-smi >/dev/null || return 0 ;;
  *) return 0 ;;
  esac
  # shellcheck disable=SC2086,SC2016
  in_background timeout 300 srun $CLIPMILL_SRUN_FLAGS --nodelist="$(paste -sd, <<<"$NODES")" --nodes="$COUNT" \
    --ntasks="$COUNT" --ntasks-per-node=1 --cpus-per-task="${SLURM_CPUS_ON_NODE:-1}" --overlap --kill-on-bad-exit=1 \
    --open-mode=append --output="$RUN_DIR/logs/slurm/all-reduce-$SLURM_JOB_ID.$RESTARTS-%N" env MASTER_ADDR="$HEAD" \
    MASTER_PORT=$((30000 + SLURM_JOB_ID % 2000)) WORLD_SIZE="$COUNT" LOCAL_RANK=0 \
    bash -c 'RANK=$SLURM_NODEID exec python3 "$1/all_reduce.py"' - "$CLIPMILL_SLURM_DIR"
  ((STATUS == 0 || told || cancelled)) && return
  say "the nodes do not reach each other: see $RUN_DIR/logs/slurm/all-reduce-*"
  requeue_or_end "unfit network" 71
}

launch() { # launch NUMBER: returns when the last wrapper has ended; STATUS is srun's
  export CLIPMILL_ATTEMPT="$SLURM_JOB_ID.$RESTARTS.$1"
  export CLIPMILL_NODES=$COUNT CLIPMILL_MASTER_ADDR=$HEAD
  export CLIPMILL_MASTER_PORT=$((20000 + (SLURM_JOB_ID * 4 + $1) % 10000))
  local end
  end=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%e) && end=$(date -d "$end" +%s 2>/dev/null) || end=""
  export CLIPMILL_ENDS_AT=$end # should no signal come
  say "attempt $CLIPMILL_ATTEMPT on $(paste -sd, <<<"$NODES")"
  # All cores of a node for its one task: what the job asked for is not passed on to srun since SLURM 22.05. The node's
  # rank is that in the step, which leaves spares out.
  # shellcheck disable=SC2086,SC2016
  in_background srun $CLIPMILL_SRUN_FLAGS --nodelist="$(paste -sd, <<<"$NODES")" --nodes="$COUNT" --ntasks="$COUNT" \
    --ntasks-per-node=1 --cpus-per-task="${SLURM_CPUS_ON_NODE:-1}" --overlap \
    --kill-on-bad-exit=1 --wait=60 --open-mode=append --output="$RUN_DIR/logs/slurm/$CLIPMILL_ATTEMPT-%N.log" \
    bash -c 'export CLIPMILL_NODE_RANK=$SLURM_NODEID; exec clipmill node "$@"' node "$RUN_DIR" "$STAGE"
}

in_background() { # a trapped signal ends bash's wait, not its child: wait until that is gone
  "$@" &
  local child=$!
  while :; do
    interrupted=0
    wait "$child"
    STATUS=$?
    ((interrupted)) || break
  done
}

decide() { # 0: launch it again here; 1: over, by what `leave` then says
  ask_no_more
  OUTCOME=unsaid CLASS="" CODE=""
  # Of this attempt only: a wrapper that never came as far as to say anything leaves the words of the one before.
  if [ "$(state stage)" = "$STAGE" ] && [[ $(state owner) == "$CLIPMILL_ATTEMPT"* ]]; then
    OUTCOME=$(state status) CLASS=$(state class) CODE=$(state exit_code)
  elif ((STATUS == 0)); then # nothing was to be done: completed before, or held by the user
    OUTCOME=$([ -e "$RUN_DIR/control/cancel" ] || user_stopped && echo stopped || echo completed)
  fi
  say "attempt $CLIPMILL_ATTEMPT: $OUTCOME${CLASS:+ ($CLASS)}, code ${CODE:-unsaid}, step $(state step), srun $STATUS"
  case $OUTCOME:$CODE in
  completed:* | stopped:* | *:78 | *:2) return 1 ;;
  esac
  ((STATUS == 126 || STATUS == 127)) && fail 78 "clipmill could not be started; see $RUN_DIR/logs/slurm"
  ((told || cancelled)) && return 1
  (($1 < 2))
}

leave() {
  case ${OUTCOME:-}:${CODE:-} in
  completed:*) exit 0 ;;
  failed:78 | failed:2) fail 78 "$(state message); see clipmill logs $RUN_DIR" ;;
  esac
  # Of scancel and of preemption without USR1 the tasks hear first: wait for what this shell is told.
  [ "${OUTCOME:-}" != stopped ] || ((told || cancelled)) || in_background sleep 3
  ask_no_more
  { ((cancelled)) || [ -e "$RUN_DIR/control/cancel" ]; } && fail 1 "cancelled at step $(state step); submit it again to go on"
  user_stopped && fail 75 "stopped by the user at step $(state step); submit it again to go on"
  requeue_or_end "${OUTCOME:-stopped}${CLASS:+ ($CLASS)}" 75
}

requeue_or_end() { # requeue_or_end WHY CODE: attempts of which nothing is heard are bounded, others by the wrapper
  local silent="$RUN_DIR/logs/slurm/silent"
  case $1 in
  *unsaid* | unfit*) ((told)) || echo "$SLURM_JOB_ID.$RESTARTS" >>"$silent" ;;
  *) rm -f "$silent" ;;
  esac
  if [ "$(wc -l 2>/dev/null <"$silent" || echo 0)" -ge 3 ]; then
    rm -f "$silent"
    fail "$([ "$2" = 71 ] && echo 71 || echo 78)" "three times in a row: $1; see $RUN_DIR/logs"
  fi
  trap '' TERM USR1 # SLURM ends this shell because of the requeue
  forget_stop
  if [ -z "$SUCCESSOR" ]; then
    say "$1 at step $(state step): requeued"
    if scontrol requeue "$ME"; then
      sleep 300 # ending here first would be an end of the job
      exit "$2"
    fi
    { [ -z "${SHARE:-}" ] && queue_successor; } ||
      fail "$2" "SLURM refuses to requeue it and takes no other job; submit the same line again to go on"
  fi
  goes_on=1
  say "$1 at step $(state step): job $SUCCESSOR goes on"
  exit "$2"
}

# ---- where a job may not be requeued

may_be_requeued() { [[ $(scontrol -o show job "$SLURM_JOB_ID") != *" Requeue=0 "* ]]; }

# By preemption, the time limit or a lost node, not by scancel.
taken_away() {
  local about
  about=$(scontrol -o show job "$SLURM_JOB_ID") || return 1
  [[ $about != *" Reason=None "* || $about =~ " PreemptTime="[0-9] ]]
}

queue_successor() { # SUCCESSOR: a job like this one, which begins when this one is over, however it ends
  local about flags=() pair value script after="afterany:$SLURM_JOB_ID"
  about=$(scontrol -o show job "$SLURM_JOB_ID") || return 1
  # What may have been said on the command line of sbatch; the rest is in the job file.
  for pair in partition:Partition account:Account qos:QOS time:TimeLimit nodes:NumNodes constraint:Features \
    exclude:ExcNodeList licenses:Licenses gpus-per-node:TresPerNode reservation:Reservation wckey:WCKey output:StdOut; do
    value=$(sed -n "s/.* ${pair#*:}=\([^ ]*\).*/\1/p" <<<"$about")
    case $value in "" | "(null)" | "N/A" | "*") ;; *) flags+=("--${pair%%:*}=${value#gres:gpu:}") ;; esac
  done
  [[ $SLURM_JOB_NAME =~ ^clipmill-.*-[0-9a-f]{8}$ ]] && after+=",singleton" # as `clipmill submit` has it
  script=$(sed -n 's/.* Command=\([^ ]*\).*/\1/p' <<<"$about")
  [ -f "$script" ] || script="$CLIPMILL_SLURM_DIR/$STAGE.sbatch"
  # shellcheck disable=SC2046
  SUCCESSOR=$(cd "$SLURM_SUBMIT_DIR" && env $(compgen -e | sed -n '/^SLURM_CONF$/d; s/^SLURM_/-u &/p') sbatch --parsable \
    --no-requeue --job-name="$SLURM_JOB_NAME" --dependency="$after" "${flags[@]}" "$script" "$RUN_DIR") || {
    SUCCESSOR=""
    say "this job may not be requeued, and no other one could be queued that goes on where it ends"
    return 1
  }
  SUCCESSOR=${SUCCESSOR%%;*}
  trap drop_successor EXIT
  say "this job may not be requeued: job $SUCCESSOR waits to go on, should this one end too early"
  note_successor successor
  hand_over "$SLURM_JOB_ID" "$SUCCESSOR"
}

drop_successor() { # the work is done, or must not go on
  [ -n "$SUCCESSOR" ] && ((!goes_on)) || return 0
  hand_over "$SUCCESSOR" "$SLURM_JOB_ID"
  scancel "$SUCCESSOR"
  note_successor "no successor"
  SUCCESSOR=""
}

note_successor() {
  printf '\n{"event": "%s", "on": "slurm", "of": "%s", "job": "%s", "time": %s}\n' "$1" "$SLURM_JOB_ID" "$SUCCESSOR" \
    "$(date +%s)" >>"$RUN_DIR/attempts.jsonl"
}

hand_over() { # hand_over FROM TO: whoever waits for the one job waits for the other
  local job waits
  squeue --me --noheader --states=PENDING --format='%i %E' | sed 's/([^)]*)//g' | while read -r job waits; do
    [[ :$waits, == *:"$1"[:,]* && $job != "$2" ]] || continue
    waits=$(sed -E "s/:$1([:,]|\$)/:$2\1/g" <<<"$waits")
    scontrol update "jobid=$job" "dependency=$waits" || say "job $job could not be made to wait for job $2"
  done
}

# ---- curate-array.sbatch

run_share() { # run_share RUN_DIR | run_share RECIPE [overrides]: one element of the array, which asks no other
  STAGE=curate RESTARTS=${SLURM_RESTART_COUNT:-0}
  trap on_usr1 USR1
  trap on_term TERM
  # shellcheck source=slurm/env.sh
  source "$CLIPMILL_SLURM_DIR/env.sh"
  find_run_dir "$@"
  local shares=$RUN_DIR/array
  mkdir -p "$shares"
  # The number of shares stays that of the first submission, so that single elements can be submitted again.
  (set -o noclobber && echo "${SLURM_ARRAY_TASK_COUNT:?submit it with --array=0-N}" >"$shares/count") 2>/dev/null
  local count recipe
  count=$(cat "$shares/count")
  ((SLURM_ARRAY_TASK_ID < count)) || fail 78 "there are $count shares, numbered from 0; rm $shares/count for others"
  [ ! -e "$RUN_DIR/control/cancel" ] || fail 1 "cancelled; to go on: clipmill submit ... --uncancel"
  recipe=$(python3 -m pipeline.cluster.schedulers.shares "$RUN_DIR" "$SLURM_ARRAY_TASK_ID" "$count") ||
    fail $? "no recipe of share $SLURM_ARRAY_TASK_ID"
  SHARE="share $SLURM_ARRAY_TASK_ID of $count"
  say "$SHARE: ${recipe:-is empty}"
  [ -n "$recipe" ] || exit 0
  share "$recipe"
}

share() {
  local recipe=$1 folder
  folder=$(dirname "$recipe")
  # shellcheck disable=SC2086
  in_background srun $CLIPMILL_SRUN_FLAGS --ntasks=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --open-mode=append \
    --output="$folder/log" clipmill curate "$recipe" "curate.ray.num_cpus=${SLURM_CPUS_PER_TASK:-1}"
  case $STATUS in
  0)
    rm -rf "$folder/output" # what counts is in the pool
    exit 0
    ;;
  78) # of a small share nothing may be left; what was measured is in the pool all the same
    grep -q "^error: curate: no pair is left" "$folder/log" && rm -rf "$folder/output" && exit 0
    ;;&
  78 | 2) fail 78 "$SHARE: see $folder/log" ;;
  esac
  ((cancelled)) && fail 1 "cancelled; submit it again to go on"
  ((STATUS == 75 || told || RESTARTS < 3)) || fail 1 "$SHARE failed again: see $folder/log"
  requeue_or_end "$SHARE ended with $STATUS" 75
}
