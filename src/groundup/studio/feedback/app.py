"""The feedback page and what it asks the server for."""

from collections.abc import Callable
from dataclasses import asdict
from random import Random
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel

from groundup.errors import UserError
from groundup.seeds import derive
from groundup.studio.feedback.judgement import VERDICTS, Judgement, Rater
from groundup.studio.feedback.store import Store, StoreError
from groundup.studio.feedback.summary import summary
from groundup.studio.feedback.words import CHINESE, ENGLISH
from groundup.studio.local import local_app
from groundup.studio.page import asset, render_page


class Undo(BaseModel):
    """Which judgement to take back, so that asking twice does not take two back."""

    rater: Rater
    judgement: str


def feedback_page(ask: str, session: str) -> str:
    """The page of a feedback file's session, for choices (`ask` is "choice") or ratings ("rating")."""
    facts = {"ask": ask, "session": session, "words": {"en": ENGLISH, "zh": CHINESE}}
    scripts = [asset("words.js"), asset("feedback.js")]
    return render_page("feedback.html.j2", ["report.css", "app.css", "feedback.css"], scripts, facts)


def feedback_app(store: Store, host: str, failure: Callable[[], str | None] = lambda: None) -> FastAPI:
    """The app on a feedback file. What it acknowledges is on the disk.

    Requests name the file's session, so that a page that is still open never judges another file's questions: it
    gets the reply 409 with a `detail`. Where the file cannot be used the reply is 503, and may be asked for again.

    Args:
        store: the file, which `begin` has filled.
        host: see `local_app`.
        failure: why no further answers are written, or None.
    """
    app, about, session = local_app(host), store.about(), store.session()
    page = feedback_page(about["ask"], session)

    def in_session(named: Annotated[str, Query(alias="session")]) -> None:
        if named != session:
            raise HTTPException(409, "other questions are asked here now; load the page again")

    api = APIRouter(prefix="/api", dependencies=[Depends(in_session)])

    @app.exception_handler(StoreError)
    async def _fail(request: Request, error: StoreError) -> JSONResponse:
        del request
        return JSONResponse({"error": str(error)}, status_code=503)

    @app.get("/", response_class=HTMLResponse)
    def _page() -> HTMLResponse:
        return HTMLResponse(page, headers={"Cache-Control": "no-store"})

    @api.get("/next")
    def _next(rater: Annotated[Rater, Query()]) -> dict[str, Any]:
        progress, question = store.progress(rater), store.next(rater)
        reply: dict[str, Any] = {"state": "done" if progress.done == progress.total else "writing"}
        reply |= asdict(progress)
        if question:
            reply["state"] = "ask"
            order = shown_order(len(question.answers), int(about["seed"]), rater, question.number)
            reply["question"] = {
                "number": question.number,
                "messages": question.messages,
                "answers": [{"number": place, "text": question.answers[place].text} for place in order],
            }
        elif reply["state"] == "writing" and (why := failure()):
            reply |= {"state": "failed", "error": why}
        return reply

    @api.post("/judgements")
    def _judge(judgement: Judgement) -> dict[str, bool]:
        if judgement.verdict not in VERDICTS[about["ask"]]:
            raise UserError(f"'{judgement.verdict}' does not answer what is asked for, a {about['ask']}")
        if not store.judge(judgement):
            raise UserError("you have judged this already, perhaps in another window")
        return {"stored": True}

    @api.post("/undo")
    def _undo(undo: Undo) -> dict[str, bool]:
        return {"undone": store.undo(undo.rater, undo.judgement)}

    @api.get("/summary")
    def _summary() -> dict[str, Any]:
        return summary(store)

    app.include_router(api)
    return app


def shown_order(count: int, seed: int, rater: str, question: int) -> list[int]:
    """In which order the answers to a question are shown to a rater: another for each, the same after a reload."""
    order = list(range(count))
    Random(derive(seed, f"order of question {question} for {rater}")).shuffle(order)
    return order
