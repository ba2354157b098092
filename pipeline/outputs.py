"""The names of what the sections of a recipe leave in their output folders, said once."""

# <curate.output>; shards, index/ and manifest.json are the contract's (pipeline/contract/)
SUMMARY = "summary.json"
SUBSET = "subset.npy"
VERDICTS = "verdicts"
ENTRY_COUNTS = "entry_counts.json"
CONCEPTS = "concept_index"
DRY_RUN = "dry_run.json"  # what `clipmill curate --dry-run` has found
POOL = "_pool"
WORK = "_work"
OWNER = "_clipmill.json"  # in an output and in a pool: whose folder it is, and what we wrote into it
# <train.output>
METRICS = "metrics.jsonl"
EVALS = "evals.jsonl"
CHECKPOINTS = "checkpoints"
SAVED = "saved.json"  # this run has saved a checkpoint before
HISTORY = "history"  # the recipe of every start, and what differed from the one before
ATTEMPTS = "attempts.jsonl"
CACHE = "cache"
COMPLETE = "COMPLETE.json"  # in every checkpoint, written last
# `clipmill export RUN FOLDER`; a .pt has the config under its name
EXPORT_WEIGHTS = "open_clip_model.safetensors"
EXPORT_CONFIG = "open_clip_config.json"
# <eval.output>
EVAL = "eval.json"
BEFORE = "before.json"
# any of them
RECIPE = "recipe.yaml"
REPORT = "report.html"
COMPARISON = "comparison.html"  # of this run and another
DATA_CARD = "DATA_CARD.md"
FINISHED = "finished.json"
