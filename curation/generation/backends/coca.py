"""CoCa (Yu et al., 2022) as open_clip builds it: captions token by token, from a checkpoint, an export or a config."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from curation.generation.backends.backend import BatchBackend
from curation.generation.request import Answer, Request
from curation.methods.vectors.clip_files import digests, read_config
from curation.methods.vectors.clip_model import ClipModel, own_is_none
from curation.stage import IMAGE, Context
from pipeline.draws import keyed_uniform
from pipeline.errors import RecipeError
from pipeline.images.decoder import Picture, Refused


class CocaBackend(BatchBackend):
    """model, pretrained, precision, chunk: as of the stage clip_image_vector. A caption depends on its picture, these
    settings and the request's seed alone: the model is always given `chunk` rows.

    temperature  0: always the likeliest token; else drawn from the likeliest that make up `top_p`
    max_tokens   at most, within the model's context

    The score of a caption is the mean log probability of its tokens.
    """

    kind: Literal["coca"] = "coca"
    needs_prompt: ClassVar[bool] = False
    is_heavy: ClassVar[bool] = True
    inputs: ClassVar[tuple[str, ...]] = (IMAGE,)

    model: str = Field(min_length=1)
    pretrained: str | None = Field(default=None, min_length=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    chunk: int = Field(default=16, ge=1)
    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=0.95, gt=0, le=1)
    max_tokens: int = Field(default=30, ge=1)

    _own = field_validator("pretrained")(own_is_none)

    @property
    def named(self) -> str:
        return self.model.rstrip("/").rpartition("/")[2]

    def identity(self) -> dict[str, Any]:
        files = {name: digest for name, (_, digest) in self.file_digests("generate.backend").items()}
        return self.model_dump(mode="json") | files

    def file_digests(self, where: str) -> dict[str, tuple[str, str]]:
        return digests(self.model, self.pretrained, where)

    def check(self, where: str) -> None:
        config = read_config(self.model, self.pretrained, where)["model_cfg"]
        if "multimodal_cfg" not in config:
            hint = "give a CoCa of open_clip (coca_ViT-B-32), or what `clipmill export` wrote of one"
            raise RecipeError(f"{where}.model", f"{self.model} has no text decoder", "a CoCa", hint)
        digests(self.model, self.pretrained, where)

    def open(self, ctx: Context) -> Callable[[Sequence[Request]], Sequence[Sequence[Answer]]]:
        writer = _Writer(ClipModel.load(self.model, self.pretrained, self.precision, "generate.backend"), self)

        def ask(requests: Sequence[Request]) -> list[list[Answer]]:
            found: list[list[Answer]] = [[] for _ in requests]
            pictures: dict[int, Any] = {}
            for at, request in enumerate(requests):
                try:
                    pictures[at] = Picture(request.row[IMAGE]).rgb(writer.model.background)
                except Refused as refused:
                    found[at] = [Answer(failed=refused.reason)]
            places = list(pictures)
            for start in range(0, len(places), self.chunk):
                some = places[start : start + self.chunk]
                answers = writer.captions([pictures[at] for at in some], [requests[at].seed for at in some])
                for at, answer in zip(some, answers, strict=True):
                    found[at] = [answer]
            return found

        return ask


class _Writer:
    """Letters: B rows of a chunk, T tokens so far, V words of the vocabulary."""

    def __init__(self, model: ClipModel, settings: CocaBackend) -> None:
        self.model, self._settings = model, settings
        tokenizer = model.tokenize
        if not hasattr(tokenizer, "sot_token_id") or not hasattr(tokenizer, "eot_token_id"):
            found = f"the tokenizer of {settings.model} does not say where a text begins and ends"
            raise RecipeError("generate.backend.model", found, "open_clip's own tokenizer")
        self._begin, self._end = int(tokenizer.sot_token_id), int(tokenizer.eot_token_id)

    def captions(self, pictures: Sequence[Any], seeds: Sequence[int]) -> list[Answer]:
        """At most `chunk` pictures."""
        import torch

        towers, chunk = self.model.towers, self._settings.chunk
        rows = [self.model.prepared(each) for each in pictures]
        images = torch.stack([*rows, *[torch.zeros_like(rows[0])] * (chunk - len(rows))]).to(self.model.device)
        tokens = np.full((chunk, 1), self._begin, np.int64)
        done, scores = np.zeros(chunk, bool), np.zeros((chunk, 0))
        done[len(rows) :] = True
        most = min(self._settings.max_tokens, towers.text.context_length - 1)
        with torch.inference_mode(), self.model.autocast():
            _, seen = towers._encode_image(images)
            for step in range(most):
                text = torch.from_numpy(tokens).to(self.model.device)
                _, read = towers._encode_text(text)
                logits_BV = towers.text_decoder(seen, read)[:, -1].float().cpu().numpy().astype(np.float64)
                logits_BV -= logits_BV.max(axis=1, keepdims=True)
                chance_BV = logits_BV - np.log(np.exp(logits_BV).sum(axis=1, keepdims=True))
                picked = np.array([self._next(chance_BV[at], seeds, at, step) for at in range(chunk)])
                picked = np.where(done, 0, picked)  # 0: padding, as in training
                gained = np.where(done, np.nan, chance_BV[np.arange(chunk), picked])
                scores, tokens = np.column_stack([scores, gained]), np.column_stack([tokens, picked])
                done |= picked == self._end
                if done.all():
                    break
        return [self._answer(tokens[at, 1:], scores[at], bool(done[at])) for at in range(len(rows))]

    def _next(self, chance_V: np.ndarray, seeds: Sequence[int], at: int, step: int) -> int:
        """Of log probabilities."""
        settings = self._settings
        if settings.temperature == 0 or at >= len(seeds):
            return int(chance_V.argmax())
        order = np.argsort(-chance_V, kind="stable")
        weight = np.exp((chance_V[order] - chance_V[order[0]]) / settings.temperature)
        share = np.cumsum(weight / weight.sum())
        kept = int(np.searchsorted(share, settings.top_p)) + 1
        drawn = keyed_uniform(seeds[at], "token", step) * share[min(kept, len(share)) - 1]
        return int(order[np.searchsorted(share, drawn, side="right")])

    def _answer(self, tokens: np.ndarray, scores: np.ndarray, is_done: bool) -> Answer:
        stop = int(np.argmax(tokens == self._end)) if self._end in tokens else len(tokens)
        text = self.model.tokenize.decode(tokens[:stop].tolist()).strip()
        score = float(np.nanmean(scores[: stop + 1])) if len(scores) else None
        return Answer(text, score, "stop" if is_done else "length", 0, stop)
