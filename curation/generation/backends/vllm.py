"""vLLM in this process: the model on this task's GPUs, many requests batched by its own scheduler.

`placement.generate: {gpus: 1}` gives each process its GPU. vLLM is imported when the model is loaded; it is no
dependency.
"""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from curation.generation.backends.backend import BatchBackend
from curation.generation.request import Answer, Message, Request
from curation.stage import Context
from pipeline.errors import RecipeError
from pipeline.images.decoder import Picture, Refused


class VllmBackend(BatchBackend):
    """model      as `vllm serve` takes it: a name of the hub, or a folder
    engine     further arguments of vllm.LLM, as they are (max_model_len, tensor_parallel_size, limit_mm_per_prompt)
    extra      further ones of vllm.SamplingParams (top_k, repetition_penalty)

    How many requests it is given at once: curate.placement.generate.batch (by default 32; thousands keep a GPU busy).
    """

    kind: Literal["vllm"] = "vllm"
    is_heavy: ClassVar[bool] = True

    model: str = Field(min_length=1)
    temperature: float = Field(default=0.7, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=128, ge=1)
    stop: tuple[str, ...] = ()
    extra: dict[str, Any] = {}
    engine: dict[str, Any] = {}

    def identity(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"engine"})

    def check(self, where: str) -> None:
        if importlib.util.find_spec("vllm") is None:
            hint = "pip install vllm on every node, or run `vllm serve` and use backend: {kind: openai, url: ...}"
            raise RecipeError(f"{where}.kind", "vllm is not installed here", "the package vllm", hint)

    def open(self, ctx: Context) -> Callable[[Sequence[Request]], Sequence[Sequence[Answer]]]:
        import vllm

        engine = vllm.LLM(model=self.model, **self.engine)

        def ask(requests: Sequence[Request]) -> list[list[Answer]]:
            found: list[list[Answer]] = [[] for _ in requests]
            talks, params, places = [], [], []
            for at, request in enumerate(requests):
                try:
                    talks.append([_message(each) for each in request.messages])
                except Refused as refused:
                    found[at] = [Answer(failed=refused.reason)]
                    continue
                said = {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens}
                params.append(vllm.SamplingParams(**said, stop=list(self.stop), seed=request.seed, **self.extra))
                places.append(at)
            for at, told in zip(places, engine.chat(talks, params, use_tqdm=False) if talks else (), strict=True):
                first = told.outputs[0]
                used = len(told.prompt_token_ids or ()), len(first.token_ids)
                found[at] = [Answer(first.text, None, str(first.finish_reason or "stop"), *used)]
            return found

        return ask


def _message(message: Message) -> dict[str, Any]:
    if not message.images:
        return {"role": message.role, "content": message.text}
    pictures = [{"type": "image_pil", "image_pil": _picture(each)} for each in message.images]
    return {"role": message.role, "content": [*pictures, {"type": "text", "text": message.text}]}


def _picture(body: bytes) -> Any:
    """As our decoder reads it, within its limits."""
    return Picture(body).rgb("white")
