"""A server on loopback that speaks chat completions, in a process of its own: slow, wrong and unfair as asked.

    with running(tmp_path, delay=0.01, faults=("http_500", "hang")) as server: ...

Every request is written down as it comes (`asked`) and when its answer has left whole (`answered`), by idempotency key.
A request meets each of the `faults` that are drawn for it, one after the other, before it is answered.
"""

import asyncio
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FAULTS = ("http_500", "http_503", "429", "429_after", "429_date", "hang", "half", "bad_json", "no_choices", "closed")
FOR_GOOD = ("http_400", "wrong_model", "length", "filtered", "refusal", "empty")


class Server:
    def __init__(self, folder: Path, process: subprocess.Popen, port: int) -> None:
        self.folder, self.process, self.port = folder, process, port
        self.url = f"http://127.0.0.1:{port}/v1"

    def _lines(self) -> list[dict[str, Any]]:
        path = self.folder / "server.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def restart(self) -> None:
        """Kills it, whatever it is answering, and starts it anew on the same port with the same log."""
        self.process.kill()
        self.process.wait()
        self.process = _started(self.folder, self.port)

    def asked(self) -> Counter[str]:
        return Counter(line["asked"] for line in self._lines() if "asked" in line)

    def answered(self) -> Counter[str]:
        """Whole and good answers by idempotency key."""
        return Counter(line["answered"] for line in self._lines() if "answered" in line)

    def bodies(self) -> list[dict[str, Any]]:
        return [line["body"] for line in self._lines() if "body" in line]

    def most_at_a_time(self) -> int:
        return max((line["now"] for line in self._lines() if "now" in line), default=0)


@contextmanager
def running(folder: Path, port: int = 0, **says: Any) -> Iterator[Server]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "says.json").write_text(json.dumps(says))
    server = Server(folder, _started(folder, port), int((folder / "port").read_text()))
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def _started(folder: Path, port: int) -> subprocess.Popen:
    (folder / "port").unlink(missing_ok=True)
    process = subprocess.Popen([sys.executable, __file__, str(folder), str(port)])
    end = time.monotonic() + 30
    while not (folder / "port").exists():
        assert process.poll() is None and time.monotonic() < end, "the server did not start"
        time.sleep(0.02)
    return process


def text_for(body: dict[str, Any], answers: Sequence[Sequence[str]] = ()) -> str:
    """A function of the prompt and the seed: the first of `answers`, [words of the prompt, template], whose words it
    has. {n} is a number, {edit} the first line of the text that is asked about with a number for its first word."""
    digest = hashlib.sha256(json.dumps([body["messages"], body.get("seed")], sort_keys=True).encode()).hexdigest()
    prompt = "\n".join(_words(message["content"]) for message in body["messages"])
    template = next((each for words, each in answers if words in prompt), "a drawing that shows number {n}")
    fenced = re.findall(r"\n(.*)\n</data-", prompt)
    number = str(int(digest[:8], 16))
    edit = " ".join([number, *fenced[-1].split()[1:]]) if fenced else ""
    return template.replace("{n}", number).replace("{edit}", edit)


def _words(content: Any) -> str:
    return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)


def _drawn(key: str, faults: Sequence[str], share: float) -> list[str]:
    """The faults that a request meets, in their order."""
    return [
        fault for fault in faults if int(hashlib.sha256(f"{key} {fault}".encode()).hexdigest()[:8], 16) < share * 2**32
    ]


def main(folder: Path, port: int) -> None:
    from aiohttp import web

    says = json.loads((folder / "says.json").read_text())
    log = open(folder / "server.jsonl", "ab", buffering=0)  # noqa: SIM115
    seen: Counter[str] = Counter()
    now = 0

    def note(**line: Any) -> None:
        log.write(json.dumps(line).encode() + b"\n")

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal now
        now += 1
        try:
            return await answered(request)
        finally:
            now -= 1

    async def answered(request: web.Request) -> web.StreamResponse:
        key = request.headers.get("Idempotency-Key", "")
        body = await request.json()
        if says.get("key") and request.headers.get("Authorization") != f"Bearer {says['key']}":
            return web.json_response({"error": {"message": "no such key"}}, status=401)
        note(asked=key, now=now, **({"body": body} if says.get("bodies") else {}))
        await asyncio.sleep(says.get("delay", 0.0))
        faults = _drawn(key, says.get("faults", ()), says.get("share", 0.3))
        fault = faults[seen[key]] if seen[key] < len(faults) else ""
        seen[key] += 1
        for_good = _drawn(key, says.get("for_good", ()), says.get("share", 0.3)) if not fault else []
        fault = fault or (for_good[0] if for_good else "")
        if fault.startswith("http_"):
            return web.json_response({"error": {"message": "no"}}, status=int(fault[5:]))
        if fault == "429":
            return web.Response(status=429)
        if fault == "429_after":
            return web.Response(status=429, headers={"Retry-After": "0.05"})
        if fault == "429_date":
            date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 1))
            return web.Response(status=429, headers={"Retry-After": date})
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault == "closed":
            request.transport.close()
            return web.Response()
        text = {"refusal": "I'm sorry, but I cannot help with that.", "empty": ""}.get(fault)
        text = text_for(body, says.get("answers", ())) if text is None else text
        finish = {"length": "length", "filtered": "content_filter"}.get(fault, "stop")
        told = {
            "model": "another" if fault == "wrong_model" else body["model"],
            "choices": [{"message": {"content": text}, "finish_reason": finish}],
            "usage": {"prompt_tokens": 50, "completion_tokens": 10},
        }  # fmt: skip
        if says.get("uncounted"):
            del told["usage"]
        data = json.dumps({} if fault == "no_choices" else told).encode()
        if fault == "bad_json":
            data = data[:-5]
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(data))})
        await response.prepare(request)
        if fault == "half":
            await response.write(data[: len(data) // 2])
            request.transport.close()
            return response
        await response.write(data)
        await response.write_eof()
        if fault not in FAULTS:
            note(answered=key)
        return response

    async def start() -> None:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1/chat/completions", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port, backlog=4096)
        await site.start()
        number = runner.addresses[0][1]
        (folder / "port.new").write_text(str(number))
        os.replace(folder / "port.new", folder / "port")
        await asyncio.Event().wait()

    asyncio.run(start())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
