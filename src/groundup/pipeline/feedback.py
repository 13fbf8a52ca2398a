"""`groundup feedback`: questions and answers for people to judge, and what came of it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from groundup.data.conversations import Prompt, read_prompts
from groundup.errors import UserError
from groundup.files import fingerprint, write_atomically
from groundup.pipeline.chat import open_chat
from groundup.seeds import derive
from groundup.serve.chat import AnswerSettings, Chat
from groundup.serve.sampling import Sampling
from groundup.studio.feedback.pairs import export_pairs
from groundup.studio.feedback.store import Answer, Question, Store, is_store
from groundup.studio.feedback.summary import summary
from groundup.studio.quantities import quantity

# So many times the answers that are asked for are drawn, for them to differ.
_TRIES = 4


@dataclass(frozen=True)
class FeedbackSettings:
    """How questions are put; fields as the options of `groundup feedback`."""

    ask: str = "choice"
    """"choice" of the best answer, or a "rating" of each."""
    num_answers: int = 2
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=1.0, top_k=0))
    max_tokens: int = 256
    seed: int = 1
    limit: int | None = None
    """Only the first so many prompts; None: all."""


@dataclass
class Opened:
    """A feedback file that is judged; `failure` says why no further answers are written, where that is so."""

    store: Store
    failure: str | None = None


@contextmanager
def opened(source: Path, prompts: str | None, out: Path, settings: FeedbackSettings) -> Iterator[Opened]:
    """The feedback file to be judged, while a thread lets the model write the answers that it lacks.

    Args:
        source: a model that answers; without `prompts` a file of ready answers (JSON lines with a prompt and
            `answers`), or a feedback file, which is gone on with.
        prompts: what to ask the model, as `read_prompts` reads it.
        out: the feedback file.
        settings: how to ask.

    Raises UserError for what cannot be read, or where `out` was begun with other questions; at the end, where
    answers could not be written.
    """
    if prompts is None:
        with _without_model(source, out, settings) as store:
            yield Opened(store)
        return
    _check(settings)
    asked, chat = list(read_prompts([prompts], settings.limit)), open_chat(source)
    with Store(out) as store:
        about = _about(asked, settings) | {
            "model": str(source.resolve()),
            "answers": settings.num_answers,
            "max_tokens": settings.max_tokens,
            "sampling": asdict(settings.sampling),
        }
        store.begin(about, [prompt.messages for prompt in asked])
        with _writing(chat, settings, store) as writing:
            yield writing


@contextmanager
def _without_model(source: Path, out: Path, settings: FeedbackSettings) -> Iterator[Store]:
    if not source.exists():
        raise UserError(f"there is no {source}; name a model, a file of ready answers or a feedback file")
    if source.is_dir():
        raise UserError(
            f"{source} is a folder; if it is a model, name the prompts too: `groundup feedback MODEL FILE`"
        )
    if is_store(source):
        with Store(source) as store:
            if states := store.states()["waiting"]:
                raise UserError(
                    f"{source} has {states} prompts without answers; name the model and its prompts too, and this "
                    "file with --out"
                )
            if not store.about():
                raise UserError(f"{source} holds no questions; name a model and its prompts, or ready answers")
            yield store
        return
    asked = list(read_prompts([str(source)], settings.limit))
    answers = [_ready_answers(prompt) for prompt in asked]
    with Store(out) as store:
        store.begin(_about(asked, settings), [prompt.messages for prompt in asked])
        for question in store.waiting():
            store.answer(question.number, answers[question.number])
        yield store


def _ready_answers(prompt: Prompt) -> list[Answer]:
    answers = prompt.fields.get("answers")
    if not isinstance(answers, list) or len(answers) < 2 or not all(isinstance(each, str) for each in answers):
        raise UserError(
            f'{prompt.where}: give two answers or more as "answers": ["...", "..."], or a model as well'
        )
    return [Answer(text) for text in answers]


def _about(asked: list[Prompt], settings: FeedbackSettings) -> dict[str, Any]:
    """What must not change when a feedback file is gone on with."""
    content = fingerprint([[prompt.messages, prompt.fields.get("answers")] for prompt in asked])
    return {"questions": content, "ask": settings.ask, "seed": settings.seed}


def _check(settings: FeedbackSettings) -> None:
    if settings.sampling.temperature == 0:
        raise UserError("--temperature 0 writes the same answer each time; give one above 0, such as 1")


class _Writer:
    """Lets a model write the answers to a question, which differ."""

    def __init__(self, chat: Chat, settings: FeedbackSettings, stopping: threading.Event):
        self._chat, self._settings, self._stopping = chat, settings, stopping

    def write(self, question: Question) -> list[Answer] | None:
        """The answers, or None if stopped; UserError where there are too few, or the prompt is too long."""
        settings, found = self._settings, dict[str, Answer]()
        reading = self._chat.new_reading()
        for number in range(_TRIES * settings.num_answers):
            seed = derive(settings.seed, f"answer {number} to question {question.number}")
            how = AnswerSettings(settings.sampling, settings.max_tokens, seed)
            answer = self._chat.answer(question.messages, how, reading)
            text = "".join(takewhile(lambda _: not self._stopping.is_set(), answer)).strip()
            if self._stopping.is_set():
                return None
            if text:
                sampling = asdict(settings.sampling) | {"max_tokens": settings.max_tokens, "seed": seed}
                found.setdefault(text, Answer(text, self._chat.name, sampling))
            if len(found) == settings.num_answers:
                return list(found.values())
        raise UserError(f"the model gives only {len(found)} different answers")


@contextmanager
def _writing(chat: Chat, settings: FeedbackSettings, store: Store) -> Iterator[Opened]:
    """Answers are written by a thread while the block runs, question by question.

    UserError at the end of the block where the thread failed; judging goes on till then.
    """
    stopping, state = threading.Event(), Opened(store)
    writer = _Writer(chat, settings, stopping)

    def write_all() -> None:
        for question in store.waiting():
            try:
                answers = writer.write(question)
            except UserError as error:
                store.leave_out(question.number, str(error))
                continue
            if answers is None:
                return
            store.answer(question.number, answers)

    def work() -> None:
        try:
            write_all()
        except UserError as error:
            state.failure = str(error)
        except Exception as error:
            state.failure = " ".join(f"{type(error).__name__}: {error}".split())

    thread = threading.Thread(target=work, name="writer", daemon=True)
    thread.start()
    try:
        yield state
    finally:
        stopping.set()
        thread.join()
    if state.failure:
        raise UserError(f"{store.path} still lacks answers: {state.failure}; mend that and give the command again")


def export(source: Path, out: Path, majority: bool) -> dict[str, Any]:
    """Write the pairs of a feedback file as JSON lines; the figures. UserError if there are none, or no folder."""
    if not out.absolute().parent.is_dir():
        raise UserError(f"--export {out}: there is no folder {out.parent}; make it first")
    with _existing(source) as store:
        exported = export_pairs(store, majority=majority)
    if not exported.pairs:
        raise UserError(f"{source} has no judgement that prefers an answer; judge some first")
    write_atomically(out, "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in exported.pairs))
    figures = {"pairs": len(exported.pairs), "ties": exported.ties, "undecided": exported.undecided}
    return figures | {"out": str(out)}


def sum_up(source: Path) -> dict[str, Any]:
    """The figures of a feedback file."""
    with _existing(source) as store:
        return summary(store)


def _existing(source: Path) -> Store:
    if not source.is_file():
        raise UserError(f"there is no feedback file {source}; `groundup feedback MODEL PROMPTS` makes one")
    return Store(source)


def told(figures: dict[str, Any]) -> Iterator[str]:
    """A summary as lines for people."""
    waiting = f", {figures['waiting']} without answers yet" if figures["waiting"] else ""
    left_out = f", {figures['left_out']} left out" if figures["left_out"] else ""
    yield f"questions   {figures['questions']}{waiting}{left_out}"
    verdicts = ", ".join(f"{name} {count}" for name, count in figures["verdicts"].items())
    yield f"judgements  {figures['judgements']}{f' ({verdicts})' if verdicts else ''}, {figures['undone']} undone"
    for each in figures["raters"]:
        yield f"  {each['rater']}: {each['judged']}, median {quantity(each['median_seconds'], 'seconds')}"
    if figures["first_chosen"] is not None:
        yield f"the answer shown first was chosen in {quantity(figures['first_chosen'], 'percent')} of the choices"
    for kind, found in figures["agreement"].items():
        if found["raw_agreement"] is not None:
            measures = {"Cohen's kappa": found["cohen_kappa"], "Krippendorff's alpha": found["krippendorff_alpha"]}
            named = "".join(f", {name} {value:.3f}" for name, value in measures.items() if value is not None)
            yield (
                f"{kind}: {found['judged_by_several']} judged by several, agreement "
                f"{quantity(found['raw_agreement'], 'percent')}{named}"
            )
