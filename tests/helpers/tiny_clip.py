"""A CLIP of a few thousand weights, as the files that a recipe names."""

import functools
import json
import tempfile
from pathlib import Path

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def saved(folder: Path, seed: int = 0, **changed: object) -> dict[str, str]:
    """The settings `model` and `pretrained` of a stage."""
    import open_clip
    import torch

    config, weights = folder / "model.json", folder / f"weights-{seed}.pt"
    config.write_text(json.dumps(CONFIG | changed))
    torch.manual_seed(seed)
    torch.save(open_clip.CustomTextCLIP(**(CONFIG | changed)).state_dict(), weights)
    return {"model": str(config), "pretrained": str(weights)}


@functools.cache
def kept() -> dict[str, str]:
    """One that lasts as long as the process."""
    return saved(Path(tempfile.mkdtemp(prefix="tiny-clip-")))
