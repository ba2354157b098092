"""A request is what OpenAI's chat completions take; every odd answer is judged for what it is."""

import asyncio
import base64
import json
import time

import pyarrow as pa
import pytest
from pydantic import ValidationError

from curation.generation.backends.backend import Later
from curation.generation.backends.openai_server import OpenAiServer, _Session
from curation.generation.request import Message, Request
from curation.table.schemas import ANSWER
from pipeline.errors import RecipeError, Stopped
from tests.helpers.warcs import png

SERVER = OpenAiServer(url="http://host:8000/v1/", model="tiny/vlm", temperature=0.2, stop=("\n",), extra={"top_k": 5})


def judged(told, status=200, headers=None, server=SERVER):
    session = _Session.__new__(_Session)
    session._server, session._url = server, "x"
    return session._judged(status, headers or {}, told if isinstance(told, bytes) else json.dumps(told).encode())


def told(**more):
    choice = {"message": {"content": "a cat"}, "finish_reason": "stop"} | more.pop("choice", {})
    return {"model": "tiny/vlm", "choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}} | more


def test_a_request_in_plain_words():
    image = png(3)
    messages = (Message("system", "be brief"), Message("user", "what is it?", (image,)))
    assert SERVER.body(Request(messages, "k", 2, "i" * 32, 99)) == {
        "model": "tiny/vlm", "max_tokens": 128, "seed": 99, "temperature": 0.2, "stop": ["\n"], "top_k": 5,
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [
                {"type": "image_url", "image_url": {
                    "url": "data:image/png;base64," + base64.b64encode(image).decode()}},
                {"type": "text", "text": "what is it?"},
            ]},
        ],
    }  # fmt: skip


def test_answers_do_not_depend_on_where_the_server_is_or_who_pays():
    other = SERVER.model_copy(update={"url": "https://elsewhere/v1", "api_key_env": "OTHER"})
    assert other.identity() == SERVER.identity()
    assert SERVER.model_copy(update={"temperature": 0.3}).identity() != SERVER.identity()


def test_a_good_answer_and_what_it_cost():
    found = judged(told())
    assert (found.text, found.finish, found.tokens_in, found.tokens_out, found.failed) == ("a cat", "stop", 7, 3, "")
    parts = [{"type": "text", "text": "a "}, {"type": "refusal", "refusal": ""}, {"type": "text", "text": "cat"}]
    assert judged(told(choice={"message": {"content": parts}})).text == "a cat"
    assert judged(told(usage=None)).tokens_in == 0 and judged(told(choice={"message": {"content": None}})).text == ""


@pytest.mark.parametrize(
    ("answer", "failed"),
    [
        (told(model="another"), "wrong_model"),
        (told(choice={"finish_reason": "content_filter"}), "filtered"),
        (told(choice={"message": {"content": "", "refusal": "no"}}), "filtered"),
    ],
)
def test_what_is_of_no_use_for_good(answer, failed):
    assert judged(answer).failed == failed


@pytest.mark.parametrize("model", ["tiny/vlm-2026-01-01", "/models/tiny/vlm", "vlm"])
def test_a_dated_model_and_a_path_are_the_model_that_was_asked(model):
    assert judged(told(model=model)).failed == ""


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"choices": []}', b'{"choices": [{"message": 3}]}'])
def test_half_and_broken_answers_may_pass(body):
    with pytest.raises(Later, match="bad_json"):
        judged(body)


def test_retry_after_is_seconds_or_a_date():
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
    for said, least, most in (("7", 7, 7), ("0.5", 0.5, 0.5), (date, 25, 31)):
        with pytest.raises(Later) as caught:
            judged(b"", 429, {"Retry-After": said})
        assert least <= caught.value.after_s <= most
    with pytest.raises(Later) as caught:
        judged(b"", 503, {"Retry-After": "soon"})
    assert caught.value.after_s is None


@pytest.mark.parametrize(
    ("status", "said"), [(401, "set OPENAI_API_KEY"), (403, "may use"), (404, "/v1"), (302, "give the address")]
)
def test_what_can_never_work_is_said_at_once(status, said):
    with pytest.raises(RecipeError, match=said) as caught:
        judged({"error": {"message": "no such thing"}}, status)
    assert "no such thing" in caught.value.found


@pytest.mark.parametrize(
    "wrong",
    [{"url": "host:8000"}, {"url": "http://user:secret@host/v1"}, {"url": "http://host/v1?key=secret"},
     {"extra": {"seed": 3}}, {"extra": {"messages": []}}, {"max_tokens": 0}, {"api_key_env": "sk-secret"}],
)  # fmt: skip
def test_settings_that_would_leak_or_clash_are_refused(wrong):
    with pytest.raises(ValidationError):
        OpenAiServer(**{"url": "http://host/v1", "model": "m"} | wrong)


def test_no_answer_at_all_may_pass_whatever_the_reason():
    async def ask():
        async with OpenAiServer(url="http://127.0.0.1:9/v1", model="m").session(2, 1.0) as session:
            await session.ask(Request((Message("user", "x"),), "k", id="i"))

    with pytest.raises(Later, match="no_connection"):
        asyncio.run(ask())


@pytest.mark.parametrize("model", ["tiny/vlm-large", "tiny/vlmo", "tiny/vlm2", "o/tiny/vlm-mini-2026-01-01"])
def test_a_longer_name_is_another_model_and_may_pass(model):
    found = judged(told(model=model))
    assert (found.failed, found.passing) == ("wrong_model", True)


@pytest.mark.parametrize("model", ["vlm-Q4_K_M.gguf", "tiny/vlm:latest", "tiny/vlm@20260101"])
def test_how_its_weights_are_packed_makes_no_other_model(model):
    assert judged(told(model=model)).failed == ""


def test_whatever_a_server_says_can_be_kept():
    cut = judged(told(choice={"message": {"content": "a cat \ud83d"}, "finish_reason": "\ud800"}))
    wild = judged(told(usage={"prompt_tokens": 10**30, "completion_tokens": -1}))
    kept = pa.array([vars(cut), vars(wild)], ANSWER).to_pylist()
    assert kept[0]["text"] == "a cat ?" and (wild.tokens_in, wild.tokens_out) == (0, 0)
    with pytest.raises(Later, match="bad_json"):
        judged(b'{"choices":' + b"[" * 200_000)
    for said in ("\u00b2", "nan", "inf", "1e999"):
        with pytest.raises(Later) as caught:
            judged(b"", 429, {"Retry-After": said})
        assert caught.value.after_s is None


def test_an_empty_account_ends_the_run_and_condemns_no_request():
    with pytest.raises(Stopped, match="top up"):
        judged({"error": {"message": "no credit"}}, 402)
