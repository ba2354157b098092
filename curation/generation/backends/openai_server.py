"""A server that speaks OpenAI's chat completions: vLLM, SGLang, llama.cpp, a hosted API."""

import base64
import email.utils
import json
import math
import os
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from curation.generation.backends.backend import Later, ServerBackend
from curation.generation.request import Answer, Message, Request, storable
from pipeline import storage
from pipeline.errors import RecipeError, Stopped, one_line
from pipeline.images.formats import image_format

if TYPE_CHECKING:
    import aiohttp  # a tenth of what a start of clipmill takes, and only who asks a server needs it

_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 507, 520, 522, 524, 529})
_WAITED_FOR = frozenset({504, 524})
"""A gateway has given up on a model that may be at work."""
_MOST_BYTES = 4 << 20  # of an answer: one of a million tokens
_MOST_TOKENS = 2**31 - 1  # that a column holds
_VERSION = re.compile(r"([-@:.](\d[\d.-]*|latest|i?q\d\w*|bf16|f16|fp8|gguf))*", re.IGNORECASE)
"""What may follow the name of a model that is that model: a date, a number, `latest`, how its weights are packed."""
_TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp", "gif": "image/gif"}
_HINTS = {
    401: "set {key} to a key that the server takes",
    403: "set {key} to a key that may use this model",
    404: "check url (it ends in /v1 with most servers) and model",
    405: "check url (it ends in /v1 with most servers)",
}


class OpenAiServer(ServerBackend):
    """POST <url>/chat/completions, one request for one answer.

    url          up to and with /v1. Answers do not depend on it: another server with the same model goes on
    api_key_env  the environment variable that holds the key; it stands in no file and no log
    extra        further fields of the request, as they are (top_k, repetition_penalty, reasoning_effort)
    """

    kind: Literal["openai"] = "openai"

    url: str
    model: str = Field(min_length=1)
    api_key_env: str = Field(default="OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int = Field(default=128, ge=1, le=131_072)
    stop: tuple[str, ...] = ()
    extra: dict[str, Any] = {}

    @field_validator("url")
    @classmethod
    def _is_a_server(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected http://host:port/v1 or https://host/v1")
        if parts.username or parts.password or parts.query:
            raise ValueError(
                "expected no user, password or query in it: a key comes from the environment (api_key_env)"
            )
        return value.rstrip("/")

    @field_validator("extra")
    @classmethod
    def _says_nothing_twice(cls, value: dict[str, Any]) -> dict[str, Any]:
        ours = sorted({"messages", "model", "n", "seed", "stream", *cls.model_fields} & set(value))
        if ours:
            raise ValueError(f"{', '.join(ours)}: settings of their own, or of clipmill; expected other fields")
        return value

    def identity(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"url", "api_key_env"})

    def body(self, request: Request) -> dict[str, Any]:
        """What is sent."""
        said = {"temperature": self.temperature, "top_p": self.top_p, "stop": list(self.stop) or None}
        return {
            "model": self.model,
            "messages": [_message(each) for each in request.messages],
            "max_tokens": self.max_tokens,
            "seed": request.seed,
            **{name: value for name, value in said.items() if value is not None},
            **self.extra,
        }

    @asynccontextmanager
    async def session(self, most: int, timeout_s: float) -> AsyncIterator["_Session"]:
        import aiohttp

        key = os.environ.get(self.api_key_env, "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=most, limit_per_host=most),
            timeout=aiohttp.ClientTimeout(total=timeout_s, connect=min(timeout_s, 30)),
            headers=headers,
            trust_env=True,
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as client:
            yield _Session(self, client)


class _Session:
    def __init__(self, server: OpenAiServer, client: "aiohttp.ClientSession") -> None:
        self._server, self._client = server, client
        self._url = f"{server.url}/chat/completions"

    async def ask(self, request: Request) -> Answer:
        import aiohttp

        body = json.dumps(self._server.body(request)).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": request.id}
        try:
            async with self._client.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                data = await _read(answer)
                return self._judged(answer.status, answer.headers, data)
        except (aiohttp.ClientSSLError, aiohttp.InvalidURL) as error:
            raise RecipeError("generate.backend.url", f"{self._shown}: {one_line(error)}") from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):  # nothing was sent
            raise Later("no_connection") from None
        except TimeoutError:
            raise Later("timeout", may_cost=True) from None
        except aiohttp.ClientPayloadError:
            raise Later("half_an_answer", may_cost=True) from None
        except aiohttp.ClientError:
            raise Later("connection_lost", may_cost=True) from None

    @property
    def _shown(self) -> str:
        return storage.shown(self._server.url)

    def _judged(self, status: int, headers: Mapping[str, str], data: bytes) -> Answer:
        if status == 402:  # nothing is wrong with the request: another day it is paid for
            found = f"{self._shown} answers 402: {_words(data)}"
            hint = "top up the account and run the same command to go on"
            raise Stopped("generate", found, "what is answered is kept", hint)
        if status in _PASSING:
            after_s = _after_s(headers.get("Retry-After", ""))
            raise Later(f"http_{status}", after_s, may_cost=status in _WAITED_FOR)
        if status in _HINTS or 300 <= status < 400:
            hint = _HINTS.get(status, "give the address that it leads to").format(key=self._server.api_key_env)
            found = f"{self._shown} answers {status}: {_words(data)}"
            raise RecipeError("generate.backend", found, f"answers of the model {self._server.model}", hint)
        if status != 200:
            return Answer(failed=f"http_{status}")
        try:
            told = json.loads(data)
            choice = told["choices"][0]
            text = storable(_text(choice["message"].get("content")))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            raise Later("bad_json", may_cost=True) from None
        used = told.get("usage") if isinstance(told.get("usage"), dict) else {}
        finish = storable(str(choice.get("finish_reason") or "stop"))[:32]
        tokens_in, tokens_out = (_whole(used.get(name)) for name in ("prompt_tokens", "completion_tokens"))
        failed = ""
        if not _is_of(str(told.get("model") or self._server.model), self._server.model):
            failed = "wrong_model"
        elif finish == "content_filter" or choice["message"].get("refusal"):
            failed = "filtered"
        return Answer(text, None, finish, tokens_in, tokens_out, failed, failed == "wrong_model")


async def _read(answer: "aiohttp.ClientResponse") -> bytes:
    data = bytearray()
    async for piece in answer.content.iter_any():
        data += piece
        if len(data) > _MOST_BYTES:
            raise Later("too_long_an_answer", may_cost=True)
    return bytes(data)


def _message(message: Message) -> dict[str, Any]:
    if not message.images:
        return {"role": message.role, "content": message.text}
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": _data_url(i)}} for i in message.images]
    return {"role": message.role, "content": [*parts, {"type": "text", "text": message.text}]}


def _data_url(image: bytes) -> str:
    kind = _TYPES.get(image_format(image), "application/octet-stream")
    return f"data:{kind};base64,{base64.b64encode(image).decode()}"


def _text(content: Any) -> str:
    """Of an answer; some servers give it in parts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part.get("type") == "text")


def _is_of(answered: str, asked: str) -> bool:
    """Whether it is the model that was asked: hosted ones answer with its dated version, local ones with a path."""
    whole, last = (answered, asked), (answered.rpartition("/")[2], asked.rpartition("/")[2])
    return any(mine.startswith(its) and _VERSION.fullmatch(mine[len(its) :]) for mine, its in (whole, last))


def _whole(value: Any) -> int:
    """Tokens as a server counts them; 0 for what cannot be a number of tokens."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS
    return value if is_count else 0


def _after_s(said: str) -> float | None:
    """Retry-After: seconds, or a date (RFC 9110)."""
    try:
        seconds = float(said)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _words(data: bytes) -> str:
    """What it says is wrong."""
    text = data.decode("utf-8", "replace")
    try:
        text = str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        pass
    return one_line(text, 200) if text.strip() else "nothing more"
