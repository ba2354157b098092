"""Block lists that hit some of the pairs of `rich_pairs`, as files that last as long as the process."""

import functools
import tempfile
from pathlib import Path

from tests.helpers.rich_pairs import rich

KINDS = {"url": "url", "sha256": "image_sha256"}


@functools.cache
def kept(of: str) -> str:
    pairs, _ = rich()
    path = Path(tempfile.mkdtemp(prefix="tiny-list-")) / f"{of}.txt"
    if of == "domain":
        entries = ["HOST1.test."]
    elif of == "phash":
        entries = [f"{each ^ 3:016x}" for each in pairs["phash"].to_pylist()[:3]]
    else:
        entries = pairs[KINDS[of]].to_pylist()[::7]
    path.write_text("\n".join(entries))
    return str(path)


def stage(*kinds: str, **settings: object) -> dict[str, object]:
    return {"lists": [{"of": of, "path": kept(of)} for of in kinds], **settings}
