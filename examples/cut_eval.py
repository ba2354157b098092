"""Cuts a small retrieval set (clip_benchmark layout) out of a larger one: the pairs whose caption has one of the words.

    python examples/cut_eval.py OUT_FOLDER IN_FOLDER --words animal,bird,food

This is how `examples/clipart-small-retrieval` was made; see examples/README.md.
"""

import argparse
import io
import re
import tarfile
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--words", required=True)
    args = parser.parse_args()
    words = re.compile(rf"\b(?:{args.words.replace(',', '|')})s?\b", re.IGNORECASE)

    files: dict[str, bytes] = {}
    with tarfile.open(args.folder / "test" / "0.tar", "r|") as tar:
        for member in tar:
            handle = tar.extractfile(member)
            if handle is not None:
                files[member.name] = handle.read()
    keys = sorted(n[:-4] for n, data in files.items() if n.endswith(".txt") and words.search(data.decode()))
    (args.out / "test").mkdir(parents=True, exist_ok=True)
    with tarfile.open(args.out / "test" / "0.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(files):
            if name.rsplit(".", 1)[0] in keys:
                entry = tarfile.TarInfo(name)
                entry.size = len(files[name])
                tar.addfile(entry, io.BytesIO(files[name]))
    (args.out / "test" / "nshards.txt").write_text("1\n")
    print(f"{args.out}: {len(keys)} pairs")


if __name__ == "__main__":
    main()
