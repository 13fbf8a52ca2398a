"""`groundup finetune`: a model learns a task, in one way or in several side by side."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from groundup.data.labelled import LabelledRows, LabelledTexts, encode_texts, read_parts
from groundup.errors import UserError, nearest
from groundup.model.base import TextModel
from groundup.model.folder import load_any
from groundup.model.initialise import initialise
from groundup.pipeline.bars import amount_bars
from groundup.pipeline.numbers import human, seconds_text
from groundup.seeds import derive
from groundup.tokenizer.load import AnyTokenizer
from groundup.train.device import set_threads
from groundup.tune.epochs import Epoch, OnProgress
from groundup.tune.finetune import Finetuned, FinetuneSettings, finetune, save_classifier
from groundup.tune.freezing import check_mode

FROM_SCRATCH = "from scratch"


@dataclass(frozen=True)
class Question:
    """What is asked for; fields as the options of `groundup finetune`."""

    model: Path
    data: Path
    valid: Path | None
    freeze: Sequence[str]
    from_scratch: bool
    per_label: int | None
    settings: FinetuneSettings
    out: Path | None
    text_field: str | None = None
    label_field: str | None = None
    threads: int | None = None

    @property
    def modes(self) -> list[str]:
        """The ways of training, each once, in the order in which they were asked for."""
        return list(dict.fromkeys([*self.freeze, *([FROM_SCRATCH] if self.from_scratch else [])])) or ["none"]


def run(task: str, question: Question, console: Console) -> dict[str, Any]:
    """The figures of the task called `task`, as JSON can write them; `console` shows bars.

    Raises:
        UserError: the task or a mode is unknown, `out` is there already, or data and model do not fit.
    """
    if task not in TASKS:
        raise UserError(f"--task {task} is unknown{nearest(task, TASKS)}")
    if question.out is not None and question.out.exists():
        raise UserError(f"{question.out} exists already; choose another --out")
    return TASKS[task](question, console)


def classify(question: Question, console: Console) -> dict[str, Any]:
    """Learn the labels of texts in each of the ways asked for, and keep the classifier that did best."""
    for mode in question.modes:
        if mode != FROM_SCRATCH:
            check_mode(mode)
    body, tokenizer = load_text_model(question.model)
    texts = read_parts(
        question.data,
        question.valid,
        text_field=question.text_field,
        label_field=question.label_field,
        per_label=question.per_label,
        seed=derive(question.settings.seed, "examples"),
    )
    names = texts[0].names
    train, valid = (_rows(part, names, tokenizer, body, question.settings.seed) for part in texts)
    set_threads(question.threads)
    rows: list[dict[str, Any]] = []
    best: Finetuned | None = None
    for mode in question.modes:
        with _bar(console, mode) as on_progress:
            result = _finetune(body, train, valid, len(names), mode, question.settings, on_progress)
        rows.append(_figures(mode, result))
        if best is None or result.scores.accuracy > best.scores.accuracy:
            best, best_mode = result, mode
        if result.signal is not None:
            break
    assert best is not None, "there is a mode at least"
    if question.out is not None:
        save_classifier(question.out, best.classifier.cpu(), tokenizer, names)
    return {
        "task": "classify",
        "model": str(question.model),
        "family": body.shape.family,
        "labels": names,
        "train_examples": train.num_rows,
        "valid_examples": valid.num_rows,
        "majority": best.scores.majority,
        "modes": rows,
        "best": best_mode,
        "patience": question.settings.patience,
        "out": None if question.out is None else str(question.out),
        "signal": rows[-1]["signal"],
    }


TASKS: dict[str, Callable[[Question, Console], dict[str, Any]]] = {"classify": classify}


def load_text_model(folder: Path) -> tuple[TextModel, AnyTokenizer]:
    """The model in a run's or model folder, with its tokenizer; UserError where it does not read text."""
    loaded = load_any(folder)
    if not isinstance(loaded.model, TextModel):
        raise UserError(f"{folder} holds a {loaded.model.shape.family}, which does not read text; choose another")
    return loaded.model, loaded.tokenizer


def show(figures: dict[str, Any], console: Console) -> None:
    """The ways of training side by side, and where the best classifier is."""
    console.print(
        f"{len(figures['labels'])} labels, {figures['train_examples']:,} examples to learn from, "
        f"{figures['valid_examples']:,} to measure on; always the most frequent label: {figures['majority']:.1%}",
        highlight=False,
        soft_wrap=True,
    )
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("frozen", "trained", "accuracy", "95 % interval", "F1 macro", "epochs", "time"):
        table.add_column(heading, justify="left" if heading == "frozen" else "right")
    for row in figures["modes"]:
        scores = row["scores"]
        table.add_row(
            escape(row["mode"]),
            human(row["trained_parameters"]),
            f"{scores['accuracy']:.1%}",
            f"{scores['accuracy_low']:.1%} to {scores['accuracy_high']:.1%}",
            f"{scores['f1_macro']:.3f}",
            str(len(row["history"])),
            seconds_text(row["seconds"]),
            style="bold" if row["mode"] == figures["best"] else None,
        )
    console.print(table, soft_wrap=True)
    if figures["patience"] is not None:
        console.print("--patience: the examples that measure also chose the epoch, so figures flatter a little")
    if figures["out"]:
        console.print(f"classifier  {escape(figures['out'])} ({figures['best']})", highlight=False, soft_wrap=True)


def _rows(
    texts: LabelledTexts, names: Sequence[str], tokenizer: AnyTokenizer, body: TextModel, seed: int
) -> LabelledRows:
    ids_NT = encode_texts(texts.texts, tokenizer, body.shape.context)
    return LabelledRows(texts.numbers(names), ids_NT, derive(seed, "order"))


def _finetune(
    body: TextModel,
    train: LabelledRows,
    valid: LabelledRows,
    num_classes: int,
    mode: str,
    settings: FinetuneSettings,
    on_progress: OnProgress,
) -> Finetuned:
    """One way of training, on a copy of the body."""
    body = copy.deepcopy(body)
    if mode == FROM_SCRATCH:
        initialise(body, derive(settings.seed, "weights"))
        mode = "none"
    return finetune(body, train, valid, num_classes, mode, settings, on_progress)


def _figures(mode: str, result: Finetuned) -> dict[str, Any]:
    return {
        "mode": mode,
        "scores": result.scores.as_json(),
        "frozen": result.frozen,
        "trained_parameters": result.trained_parameters,
        "lr": result.lr,
        "history": [asdict(epoch) for epoch in result.history],
        "seconds": result.seconds,
        "signal": result.signal,
    }


@contextmanager
def _bar(console: Console, mode: str) -> Iterator[OnProgress]:
    """Shows how far one way of training is, and what the last epoch came to."""
    with amount_bars(console) as progress:
        task = progress.add_task(mode, total=1.0, amount="")

        def show_state(share: float, history: Sequence[Epoch]) -> None:
            amount = ""
            if history:
                last = history[-1]
                amount = f"epoch {last.number}: loss {last.loss:.3f}, held-out {last.valid_accuracy:.1%}"
            progress.update(task, completed=share, amount=amount)

        yield show_state
