"""The feedback page and what it asks the server for."""

from dataclasses import asdict
from random import Random
from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from groundup.errors import UserError
from groundup.seeds import derive
from groundup.studio.feedback.judgement import Judgement, Rater
from groundup.studio.feedback.store import Store
from groundup.studio.feedback.summary import summary
from groundup.studio.feedback.words import CHINESE, ENGLISH
from groundup.studio.local import local_app
from groundup.studio.page import asset, render_page


class Undo(BaseModel):
    """Which judgement to take back, so that asking twice does not take two back."""

    rater: Rater
    judgement: str


def feedback_page(ask: str) -> str:
    """The page, for choices (`ask` is "choice") or ratings ("rating")."""
    facts = {"ask": ask, "words": {"en": ENGLISH, "zh": CHINESE}}
    scripts = [asset("words.js"), asset("feedback.js")]
    return render_page("feedback.html.j2", ["report.css", "app.css", "feedback.css"], scripts, facts)


def feedback_app(store: Store, host: str) -> FastAPI:
    """The app on a feedback file. What it acknowledges is on the disk."""
    app, about = local_app(host), store.about()
    page = feedback_page(about["ask"])

    @app.get("/", response_class=HTMLResponse)
    def _page() -> HTMLResponse:
        return HTMLResponse(page, headers={"Cache-Control": "no-store"})

    @app.get("/api/next")
    def _next(rater: Annotated[Rater, Query()]) -> dict[str, Any]:
        progress, question = store.progress(rater), store.next(rater)
        state = "done" if progress.done == progress.total else "writing"
        reply: dict[str, Any] = {"state": "ask" if question else state, **asdict(progress)}
        if question:
            order = shown_order(len(question.answers), int(about["seed"]), rater, question.number)
            reply["question"] = {
                "number": question.number,
                "messages": question.messages,
                "answers": [{"number": place, "text": question.answers[place].text} for place in order],
            }
        return reply

    @app.post("/api/judgements")
    def _judge(judgement: Judgement) -> dict[str, bool]:
        if not store.judge(judgement):
            raise UserError("you have judged this already, perhaps in another window")
        return {"stored": True}

    @app.post("/api/undo")
    def _undo(undo: Undo) -> dict[str, bool]:
        return {"undone": store.undo(undo.rater, undo.judgement)}

    @app.get("/api/summary")
    def _summary() -> dict[str, Any]:
        return summary(store)

    return app


def shown_order(count: int, seed: int, rater: str, question: int) -> list[int]:
    """In which order the answers to a question are shown to a rater: another for each, the same after a reload."""
    order = list(range(count))
    Random(derive(seed, f"order of question {question} for {rater}")).shuffle(order)
    return order
