"""What runs of `everything` import at work, imported before they are forked: seconds for each of them otherwise."""

import fasttext  # noqa: F401
import open_clip  # noqa: F401
import torch  # noqa: F401

import curation.methods.vectors.clip_files  # noqa: F401
