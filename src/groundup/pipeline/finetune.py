"""`groundup finetune`: a model learns a task, in one way or in several side by side."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from groundup.data.images import read_images
from groundup.data.labelled import LabelledRows, LabelledTexts, encode_texts, read_parts
from groundup.data.pairs import Pair, read_pairs
from groundup.errors import UserError, nearest
from groundup.evaluate.translation import score
from groundup.model.base import ImageModel, Model, TextModel
from groundup.model.classifier import Body
from groundup.model.folder import model_folder, save
from groundup.model.initialise import initialise
from groundup.model.translator import Translator
from groundup.pipeline.bars import amount_bars
from groundup.pipeline.numbers import human, seconds_text
from groundup.pipeline.stored_models import StoredModel, open_model
from groundup.seeds import derive
from groundup.serve.translate import translate as greedy
from groundup.serve.translate import translator
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.load import AnyTokenizer, load_tokenizer
from groundup.train.device import set_threads
from groundup.tune.epochs import Epoch, OnProgress
from groundup.tune.finetune import Finetuned, FinetuneSettings, finetune, save_classifier
from groundup.tune.freezing import freeze
from groundup.tune.translating import FinetunedTranslation, finetune_translation, freeze_translator

FROM_SCRATCH = "from scratch"
# Of pairs of which none are given to measure on.
_HELD_OUT = 0.02
_HELD_OUT_IMAGES = 0.2
# Translating is slow beside learning: so many of the held-out pairs are translated for the scores.
_MOST_SCORED = 200

AnyBody = TypeVar("AnyBody", bound=Model)
AnyResult = TypeVar("AnyResult", Finetuned, FinetunedTranslation)


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
    source_field: str | None = None
    target_field: str | None = None
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
    """Learn the labels of texts or images in each of the ways asked for, and keep the classifier that did best."""
    stored = open_model(question.model)
    body: Body
    if isinstance(stored.model, ImageModel):
        body, tokenizer = stored.model, None
    else:
        body, tokenizer = _of_text(stored)
    for mode in question.freeze:
        freeze(copy.deepcopy(body), mode)  # refused before any of the ways takes time
    if isinstance(body, ImageModel):
        names, train, valid = _image_rows(question)
    else:
        assert tokenizer is not None, "it reads text"
        names, train, valid = _text_rows(question, body, tokenizer)
    set_threads(question.threads)

    def learn(mode: str, on_progress: OnProgress) -> tuple[Finetuned, dict[str, Any]]:
        own, way = _prepared(body, mode, question.settings.seed)
        result = finetune(own, train, valid, len(names), way, question.settings, on_progress)
        return result, result.scores.as_json()

    rows, best, best_mode = _best_of_ways(question, console, learn, "accuracy")
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


def _text_rows(
    question: Question, body: TextModel, tokenizer: AnyTokenizer
) -> tuple[list[str], LabelledRows, LabelledRows]:
    """The labels' names, and rows to learn from and to measure on."""
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
    return names, train, valid


def _image_rows(question: Question) -> tuple[list[str], LabelledRows, LabelledRows]:
    """The same of IDX files, whose labels are whole numbers."""
    order, seed = derive(question.settings.seed, "order"), derive(question.settings.seed, "examples")
    images = read_images([str(question.data)], order)
    if question.valid is None:
        train, valid = images.divided(_HELD_OUT_IMAGES, seed)
    else:
        train, valid = images, read_images([str(question.valid)], order)
    if question.per_label is not None:
        train = train.few(question.per_label, seed)
    return [str(label) for label in range(int(train.labels.max()) + 1)], train, valid


def translate(question: Question, console: Console) -> dict[str, Any]:
    """Learn to write the second text of each pair from the first, in each of the ways asked for."""
    body, tokenizer = load_text_model(question.model)
    if not isinstance(tokenizer, Tokenizer):
        raise UserError(f"the tokenizer of {question.model} is not one of groundup's; train one with the model")
    model = translator(body, tokenizer)
    if question.per_label is not None:
        raise UserError("--labels is for --task classify: pairs have no labels; give a shorter --data")
    for mode in question.freeze:
        freeze_translator(copy.deepcopy(model), mode)  # refused before any of the ways takes time
    fields = {"source_field": question.source_field, "target_field": question.target_field}
    pairs = read_pairs([str(question.data)], **fields)
    if question.valid is None:
        train, valid = pairs.divided(_HELD_OUT, derive(question.settings.seed, "examples"))
    else:
        train, valid = pairs, read_pairs([str(question.valid)], **fields)
    set_threads(question.threads)

    def learn(mode: str, on_progress: OnProgress) -> tuple[FinetunedTranslation, dict[str, Any]]:
        own, way = _prepared(model, mode, question.settings.seed)
        result = finetune_translation(
            own, tokenizer, train.pairs, valid.pairs, way, question.settings, on_progress
        )
        return result, dict(_translation_scores(result.model, tokenizer, valid.pairs))

    rows, best, best_mode = _best_of_ways(question, console, learn, "bleu")
    if question.out is not None:
        save(question.out, best.model.cpu(), tokenizer, f"# Fine-tuned from {question.model}\n", None)
    return {
        "task": "translate",
        "model": str(question.model),
        "family": model.shape.family,
        "train_examples": len(train.pairs),
        "valid_examples": len(valid.pairs),
        "skipped": best.skipped,
        "modes": rows,
        "best": best_mode,
        "out": None if question.out is None else str(question.out),
        "signal": rows[-1]["signal"],
    }


def _translation_scores(model: Translator, tokenizer: Tokenizer, pairs: Sequence[Pair]) -> dict[str, float | str]:
    """BLEU and chrF of greedy translations of the first pairs that fit into the model's context."""
    fitting = (pair for pair in pairs if len(tokenizer.encode_array(pair[0])) <= model.shape.context)
    scored = list(islice(fitting, _MOST_SCORED))
    found = greedy(model, tokenizer, [source for source, _ in scored], beams=1)
    return score(found, [target for _, target in scored])


def _best_of_ways(
    question: Question,
    console: Console,
    learn: Callable[[str, OnProgress], tuple[AnyResult, dict[str, Any]]],
    measure: str,
) -> tuple[list[dict[str, Any]], AnyResult, str]:
    """The figures of each way of training, until a signal stops them; what was best by a score, and its way."""
    rows: list[dict[str, Any]] = []
    best: tuple[AnyResult, dict[str, Any]] | None = None
    for mode in question.modes:
        with _bar(console, mode) as on_progress:
            result, scores = learn(mode, on_progress)
        rows.append(_figures(mode, result, scores))
        if best is None or scores[measure] > best[1]["scores"][measure]:
            best = result, rows[-1]
        if result.signal is not None:
            break
    assert best is not None, "there is a mode at least"
    return rows, best[0], best[1]["mode"]


TASKS: dict[str, Callable[[Question, Console], dict[str, Any]]] = {"classify": classify, "translate": translate}


def load_text_model(folder: Path) -> tuple[TextModel, AnyTokenizer]:
    """The model in a run's or model folder, with its tokenizer; UserError where it does not read text."""
    return _of_text(open_model(folder))


def _of_text(stored: StoredModel) -> tuple[TextModel, AnyTokenizer]:
    folder, model, tokenizer = stored
    if not isinstance(model, TextModel):
        raise UserError(
            f"{folder} holds a model of the family {model.shape.family}, which does not read text; choose another"
        )
    return model, load_tokenizer(model_folder(folder)) if tokenizer is None else tokenizer


def show(figures: dict[str, Any], console: Console) -> None:
    """The ways of training side by side, and where the best one is."""
    if figures["task"] == "translate":
        console.print(
            f"{figures['train_examples']:,} pairs to learn from, {figures['valid_examples']:,} to measure on",
            highlight=False,
        )
        measures = ("BLEU", "chrF", "loss")
    else:
        _say_labels(figures, console)
        measures = ("accuracy", "95 % interval", "F1 macro")
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("frozen", "trained", *measures, "epochs", "time"):
        table.add_column(heading, justify="left" if heading == "frozen" else "right")
    for row in figures["modes"]:
        table.add_row(
            escape(row["mode"]),
            human(row["trained_parameters"]),
            *_measured(row),
            str(len(row["history"])),
            seconds_text(row["seconds"]),
            style="bold" if row["mode"] == figures["best"] else None,
        )
    console.print(table, soft_wrap=True)
    if figures["out"]:
        console.print(f"model  {escape(figures['out'])} ({figures['best']})", highlight=False, soft_wrap=True)


def _measured(row: dict[str, Any]) -> tuple[str, str, str]:
    scores = row["scores"]
    if "bleu" in scores:
        return f"{scores['bleu']:.2f}", f"{scores['chrf']:.2f}", f"{row['history'][-1]['valid_loss']:.3f}"
    interval = f"{scores['accuracy_low']:.1%} to {scores['accuracy_high']:.1%}"
    return f"{scores['accuracy']:.1%}", interval, f"{scores['f1_macro']:.3f}"


def _say_labels(figures: dict[str, Any], console: Console) -> None:
    console.print(
        f"{len(figures['labels'])} labels, {figures['train_examples']:,} examples to learn from, "
        f"{figures['valid_examples']:,} to measure on; always the most frequent label: {figures['majority']:.1%}",
        highlight=False,
        soft_wrap=True,
    )


def _rows(
    texts: LabelledTexts, names: Sequence[str], tokenizer: AnyTokenizer, body: TextModel, seed: int
) -> LabelledRows:
    ids_NT = encode_texts(texts.texts, tokenizer, body.shape.context, body.frame)
    return LabelledRows(texts.numbers(names), ids_NT, derive(seed, "order"))


def _prepared(body: AnyBody, mode: str, seed: int) -> tuple[AnyBody, str]:
    """A copy of the body, with random weights where it learns from scratch, and what of it is to be frozen."""
    body = copy.deepcopy(body)
    if mode != FROM_SCRATCH:
        return body, mode
    initialise(body, derive(seed, "weights"))
    return body, "none"


def _figures(mode: str, result: Finetuned | FinetunedTranslation, scores: dict[str, Any]) -> dict[str, Any]:
    return {
        "mode": mode,
        "scores": scores,
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
