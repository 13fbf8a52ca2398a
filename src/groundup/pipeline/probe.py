"""`groundup probe`: what a model's features are worth, for classes of text or for the likeness of words."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from groundup.data.labelled import read_parts
from groundup.errors import UserError, nearest
from groundup.pipeline.bars import amount_bars
from groundup.pipeline.finetune import load_text_model
from groundup.pipeline.numbers import seconds_text
from groundup.seeds import derive
from groundup.train.device import set_threads
from groundup.tune.probe import probe_classification, probe_similarity
from groundup.words.evaluation import Pairs, read_file


@dataclass(frozen=True)
class Question:
    """What is asked for; fields as the options of `groundup probe`."""

    model: Path
    data: Path
    valid: Path | None = None
    per_label: int | None = None
    seed: int = 0
    text_field: str | None = None
    label_field: str | None = None
    threads: int | None = None


def run(task: str, question: Question, console: Console) -> dict[str, Any]:
    """The figures of the task called `task`, as JSON can write them; UserError where there is no such task."""
    if task not in TASKS:
        raise UserError(f"the task {task} is unknown{nearest(task, TASKS)}")
    set_threads(question.threads)
    return {"task": task, "model": str(question.model), **TASKS[task](question, console)}


def classify(question: Question, console: Console) -> dict[str, Any]:
    """Logistic regression on frozen features."""
    train, valid = read_parts(
        question.data,
        question.valid,
        text_field=question.text_field,
        label_field=question.label_field,
        per_label=question.per_label,
        seed=derive(question.seed, "examples"),
    )
    model, tokenizer = load_text_model(question.model)
    with amount_bars(console) as bars:
        bar = bars.add_task("reading", total=1.0, amount=f"{len(train) + len(valid):,} texts")
        result = probe_classification(
            model, tokenizer, train, valid, on_progress=lambda share: bars.update(bar, completed=share)
        )
    return {
        "family": model.shape.family,
        "labels": result.labels,
        "train_examples": result.train_examples,
        "feature_width": result.feature_width,
        "scores": result.scores.as_json(),
        "seconds": result.seconds,
    }


def similarity(question: Question, console: Console) -> dict[str, Any]:
    """Spearman's correlation with people's judgements of pairs of words."""
    del console  # some thousand words take no time
    pairs = read_file(question.data)
    if not isinstance(pairs, Pairs):
        raise UserError(f"{question.data} holds analogies; similarity needs lines `word word score`")
    model, tokenizer = load_text_model(question.model)
    return {"family": model.shape.family, "name": pairs.name, **probe_similarity(model, tokenizer, pairs)}


TASKS: dict[str, Callable[[Question, Console], dict[str, Any]]] = {"classify": classify, "similarity": similarity}


def show(figures: dict[str, Any], console: Console) -> None:
    """One line of result, and what it rests on."""
    if figures["task"] == "similarity":
        spearman = "–" if figures["spearman"] is None else f"{figures['spearman']:.3f}"
        console.print(f"Spearman {spearman} over {figures['pairs']:,} pairs of {figures['name']}", highlight=False)
        return
    scores = figures["scores"]
    interval = f"{scores['accuracy_low']:.1%} to {scores['accuracy_high']:.1%}"
    console.print(
        f"accuracy  {scores['accuracy']:.1%} ({interval}); the most frequent label: {scores['majority']:.1%}\n"
        f"F1 macro  {scores['f1_macro']:.3f}\n"
        f"learnt from {figures['train_examples']:,} examples, {figures['feature_width']} numbers each; "
        f"measured on {scores['examples']:,}; {seconds_text(figures['seconds'])}",
        highlight=False,
        soft_wrap=True,
    )
