"""The chat page, and the answers that it streams from one worker thread, which owns the model."""

import asyncio
import json
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, StreamingResponse
from pydantic import BaseModel, Field

from groundup.serve.chat import Answer, AnswerSettings, Chat
from groundup.serve.generate import Reading
from groundup.serve.sampling import Sampling
from groundup.studio.chat.words import CHINESE, ENGLISH
from groundup.studio.local import local_app
from groundup.studio.page import asset, render_page

# A conversation's keys and values can be hundreds of megabytes: those used last are kept.
_MOST_READINGS = 4


class Turn(BaseModel):
    """One message."""

    role: Literal["system", "user", "assistant"]
    content: str


class Asked(BaseModel):
    """A conversation so far, and how to answer; `conversation` names it, so that what was read is kept."""

    conversation: Annotated[str, Field(max_length=64)]
    messages: Annotated[list[Turn], Field(min_length=1)]
    temperature: float
    top_k: int
    top_p: float
    max_tokens: int
    seed: Annotated[int, Field(ge=0, lt=1 << 63)]


def chat_page(name: str, settings: AnswerSettings, system: str) -> str:
    """The page; `settings` and the system's message are what it begins with."""
    sampling = settings.sampling
    given = {
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "max_tokens": settings.max_tokens,
        "seed": settings.seed,
        "system": system,
    }
    facts = {"name": name, "given": given, "words": {"en": ENGLISH, "zh": CHINESE}}
    return render_page(
        "chat.html.j2", ["report.css", "app.css", "chat.css"], [asset("words.js"), asset("chat.js")], facts
    )


def chat_app(chat: Chat, host: str, settings: AnswerSettings, system: str = "") -> FastAPI:
    """The app: `/api/answer` gives lines of JSON: `left_out` if any is, `piece` by piece, and `end`."""
    app, readings = local_app(host), _Readings(chat)
    # One thread has the model. Answers take turns in it token by token, so that several pages go on at once.
    worker = ThreadPoolExecutor(1, thread_name_prefix="model")
    page = chat_page(chat.name, settings, system)

    @app.get("/", response_class=HTMLResponse)
    def _page() -> HTMLResponse:
        return HTMLResponse(page, headers={"Cache-Control": "no-store"})

    @app.post("/api/answer")
    async def _answer(asked: Asked) -> StreamingResponse:
        sampling = Sampling(asked.temperature, asked.top_k, asked.top_p)
        how = AnswerSettings(sampling, asked.max_tokens, asked.seed)
        messages = [turn.model_dump() for turn in asked.messages]
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(
            worker, lambda: chat.answer(messages, how, readings.of(asked.conversation))
        )
        return StreamingResponse(_lines(answer, worker, app.state.stopping), media_type="application/x-ndjson")

    return app


async def _lines(answer: Answer, worker: ThreadPoolExecutor, stopping: threading.Event) -> AsyncIterator[str]:
    """The pieces as they come. When the reader goes away, or the server ends, no further one is computed."""
    loop, pieces = asyncio.get_running_loop(), iter(answer)
    if answer.left_out:
        yield _line(left_out=answer.left_out)
    while (piece := await loop.run_in_executor(worker, _next, pieces)) is not None:
        yield _line(piece=piece)
        if stopping.is_set():
            return
    yield _line(end="ended" if answer.ended else "cut off")


def _next(pieces: Iterator[str]) -> str | None:
    return next(pieces, None)


def _line(**value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"


class _Readings:
    """What was read of the last few conversations; used by the worker alone."""

    def __init__(self, chat: Chat):
        self._chat, self._kept = chat, OrderedDict[str, Reading]()

    def of(self, conversation: str) -> Reading:
        reading = self._kept.pop(conversation, None) or self._chat.new_reading()
        self._kept[conversation] = reading
        while len(self._kept) > _MOST_READINGS:
            self._kept.popitem(last=False)
        return reading
