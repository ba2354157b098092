"""Texts to tokens, by open_clip's tokenizers."""

import open_clip
import torch

from pipeline.errors import RecipeError, one_line
from training.towers.config import WHERE, model_config
from training.towers.settings import ModelSettings


class Tokenizer:
    """Texts to tokens; picklable, so that reading processes may hold it."""

    def __init__(self, settings: ModelSettings) -> None:
        config = model_config(settings)
        text = config["text_cfg"]
        self.context_length: int = text.get("context_length", 77)
        vocabulary = text.get("vocab_size", 49408)
        try:
            if settings.name is not None:
                self._encode = open_clip.get_tokenizer(settings.name, context_length=self.context_length)
            elif text.get("hf_tokenizer_name"):
                options = {"tokenizer_mode": text.get("tokenizer_mode"), **text.get("tokenizer_kwargs", {})}
                self._encode = open_clip.HFTokenizer(
                    text["hf_tokenizer_name"], context_length=self.context_length, **options
                )
            else:
                self._encode = open_clip.SimpleTokenizer(
                    context_length=self.context_length, **text.get("tokenizer_kwargs", {})
                )
        except Exception as error:  # anything from a hub client, a missing package or an unreachable host
            hint = "use a model with open_clip's own tokenizer, or name a local folder that holds the tokenizer's files"
            raise RecipeError(f"{WHERE}: tokenizer", f"cannot be loaded: {one_line(error)}", "", hint) from None
        own = getattr(self._encode, "vocab_size", None)
        if own is not None and own > vocabulary:
            expected = f"this tokenizer makes token numbers up to {own - 1}"
            raise RecipeError(
                f"{WHERE}.config.text_cfg.vocab_size", f"found {vocabulary}", expected, f"vocab_size: {own}"
            )

    def __call__(self, texts: list[str]) -> torch.Tensor:
        """int64 [N, context_length], cut to the context length."""
        if not texts:
            return torch.zeros(0, self.context_length, dtype=torch.int64)
        return self._encode(texts)
