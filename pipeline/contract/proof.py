"""A dataset proven undamaged on the terminal: `clipmill data verify FOLDER`."""

from pipeline import outputs, storage
from pipeline.contract.manifest import Manifest
from pipeline.contract.reinforced.side_cars import verify_sets
from pipeline.contract.verify import verify
from pipeline.errors import DataError
from pipeline.progress import progress


def prove(folder: str) -> None:
    """Reads every byte, those of reinforced sets beside the shards too; prints each problem, or a line that says there
    is none. DataError: there are some."""
    saved = storage.join(folder, outputs.RECIPE)
    hint = f"make it again: clipmill curate {saved if storage.exists(saved) else 'RECIPE'} curate.fresh=true"
    try:
        pairs = Manifest.load(folder).num_pairs
    except DataError as error:
        raise DataError(error.where, error.found, error.expected, hint) from error
    with progress(pairs, "verify", "pairs") as meter:
        found = verify(folder, progress=meter.advance)
    for problem in found.problems:
        print(problem)
    if found.problems:
        raise DataError(folder, f"{len(found.problems)} problems", "an undamaged dataset", hint)
    beside = "".join(f"; reinforced set {name}" for name in verify_sets(folder))
    print(f"{folder}: {found.pairs} pairs in {found.shards} shards, all bytes as the manifest says{beside}")
