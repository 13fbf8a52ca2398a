"""`groundup compare`: families trained with the same budget on the same text, and asked the same questions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from groundup.data.labelled import LabelledTexts, encode_texts, read_parts
from groundup.data.word_order import word_order
from groundup.errors import UserError
from groundup.model.folder import load_any
from groundup.pipeline.build import build, check_recipe, resume
from groundup.pipeline.continuing import refuse_other
from groundup.pipeline.display import Display
from groundup.plan.figures import Answer, Chart, Column, Series, Table, Value
from groundup.recipe import Recipe, load, recipe_of
from groundup.run import Run, read_rows
from groundup.seeds import derive
from groundup.shape import FAMILIES, family
from groundup.tune.features import text_vectors
from groundup.tune.probe import probe_similarity, probe_vectors, require_probes
from groundup.words import WordVectors
from groundup.words.evaluation import Pairs, read_file, similarity
from groundup.words.features import mean_vectors

Vectors = npt.NDArray[np.float32]

_PASSAGES = 1200
# What a family reads at most of a text that it is asked about.
_PROBED_TOKENS = 128


@dataclass(frozen=True)
class Task:
    """Texts to learn from and others to answer for."""

    name: str
    train: LabelledTexts
    test: LabelledTexts

    @property
    def chance(self) -> float:
        """The share of the most frequent label."""
        return max(map(self.test.labels.count, set(self.test.labels))) / len(self.test)


@dataclass(frozen=True)
class Question:
    """What is compared: families, the budget of each, the text, and tasks beside that of the words' order."""

    families: Sequence[str]
    budget: str
    sources: Sequence[str]
    out: Path
    probes: Sequence[Path] = ()
    similarities: Sequence[Path] = ()
    seed: int = 1
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Compared:
    """One family's outcome, and its answers by task; `error` says why there are none."""

    family: str
    outcome: dict[str, Any]
    answers: dict[str, float | None]
    curve: list[tuple[float, float]]
    error: str | None = None


def text_families() -> list[str]:
    """The families that learn from plain text, in the order of their years."""
    names = [name for name, traits in FAMILIES.items() if traits.examples in {"text", "words"}]
    return sorted(names, key=lambda name: (FAMILIES[name].year, name))


def compare(question: Question, display: Display) -> Answer:
    """Train each family, or find it trained in `question.out`, and ask it; what came of it.

    A family that fails is told of and left out. UserError for names, files or sources that are not there, and for
    runs in `question.out` that were trained otherwise, before any time is spent, and where no family could be
    trained; train.trainer.Interrupted after a signal: asked again, it goes on from there.
    """
    for name in question.families:
        _check(name, question)
    require_probes()
    tasks = _tasks(question)
    pairs = [_pairs(path) for path in question.similarities]
    results = [_compared(name, question, tasks, pairs, display) for name in question.families]
    if not any(result.outcome for result in results):
        raise UserError(f"no family could be trained; {results[0].family}: {results[0].error}")
    return _answer(question, tasks, pairs, results)


def _check(name: str, question: Question) -> None:
    """Refuse what could never be compared, or was trained in another way already."""
    if family(name).examples not in {"text", "words"}:
        raise UserError(f"{name} does not learn from plain text; compare {', '.join(text_families())}")
    recipe, run = _recipe(name, question), Run(question.out / name)
    check_recipe(recipe)
    if run.recipe_file.is_file():
        refuse_other(run.folder, run.recipe, recipe)


def _pairs(path: Path) -> Pairs:
    pairs = read_file(path)
    if not isinstance(pairs, Pairs):
        raise UserError(f"{path} holds analogies; --similarity needs lines `word word score`")
    return pairs


def _tasks(question: Question) -> list[Task]:
    """The words' order, and one for each file of labelled texts."""
    seed = derive(question.seed, "probes")
    own = word_order(question.sources, _PASSAGES, seed)
    third = len(own) // 3
    order = np.arange(len(own))
    tasks = [Task("order", own.chosen(order[third:]), own.chosen(order[:third]))]
    for path in question.probes:
        train, test = read_parts(path, seed=seed)
        tasks.append(Task(path.name.split(".")[0].removesuffix("_train"), train, test))
    return tasks


def _compared(
    name: str, question: Question, tasks: Sequence[Task], pairs: Sequence[Pairs], display: Display
) -> Compared:
    display.say(f"\n{name}", style="bold")
    run = Run(question.out / name)
    try:
        # A run keeps what is said in its log, and leaves none where it is refused.
        outcome = _trained(name, run, question, Display(display.console))
        answers = _asked(name, run, tasks, pairs)
    except UserError as error:
        display.warn(f"{name}: {error}")
        return Compared(name, {}, {}, [], str(error))
    rows = [row for row in read_rows(run.metrics_file) if "val_loss" in row]
    for task, value in answers.items():
        display.say(f"{task}: {value:.3f}" if value is not None else f"{task}: no answer")
    return Compared(name, outcome, answers, [(row["seconds"], row["val_loss"]) for row in rows])


def _trained(name: str, run: Run, question: Question, display: Display) -> dict[str, Any]:
    """The outcome of the family's ready recipe with the budget and text of all."""
    if run.recipe_file.is_file():
        return resume(run, display)
    return build(_recipe(name, question), run.folder, display)


def _recipe(name: str, question: Question) -> Recipe:
    common = {"budget": question.budget, "data.sources": list(question.sources), "seed": question.seed}
    return load(recipe_of(name), common | question.settings)


def _asked(name: str, run: Run, tasks: Sequence[Task], pairs: Sequence[Pairs]) -> dict[str, float | None]:
    """By task the right answers of a linear classifier on frozen features, or Spearman's rho of similarities."""
    vectors_of, similar_to = _reader(name, run)
    found: dict[str, float | None] = {}
    for task in tasks:
        learnt_from, measured_on = vectors_of(task.train.texts), vectors_of(task.test.texts)
        found[task.name] = probe_vectors(learnt_from, task.train, measured_on, task.test).accuracy
    for scored in pairs:
        found[scored.name] = similar_to(scored)["spearman"]
    return found


def _reader(name: str, run: Run) -> tuple[Callable[[Sequence[str]], Vectors], Callable[[Pairs], dict[str, Any]]]:
    """What turns texts into vectors (N, E), by the mean over tokens or words, and what compares pairs of words."""
    if family(name).examples == "words":
        vectors = WordVectors.load(run.model)
        return partial(mean_vectors, vectors), partial(similarity, vectors)
    loaded = load_any(run.folder)
    model, tokenizer = loaded.model, loaded.tokenizer
    length = min(model.shape.context, _PROBED_TOKENS)

    def vectors_of(texts: Sequence[str]) -> Vectors:
        return text_vectors(model, encode_texts(texts, tokenizer, length, model.frame))

    return vectors_of, partial(probe_similarity, model, tokenizer)


def _answer(
    question: Question, tasks: Sequence[Task], pairs: Sequence[Pairs], results: Sequence[Compared]
) -> Answer:
    good = [result for result in results if result.error is None]
    asked = [task.name for task in tasks] + [scored.name for scored in pairs]
    columns = [
        Column("family", "Family"),
        Column("parameters", "Parameters", "count"),
        Column("tokens", "Read", "tokens"),
        Column("train_seconds", "Trained", "seconds"),
        Column("bits_per_byte", "Held-out text", "bits per byte"),
        Column("loss", "Loss"),
        Column("baseline_loss", "By rates alone"),
        *(Column(task.name, f"{task.name} (chance {task.chance:.0%})", "share") for task in tasks),
        *(Column(scored.name, f"{scored.name} (Spearman)") for scored in pairs),
    ]
    figures = ("parameters", "tokens", "train_seconds", "bits_per_byte", "loss", "baseline_loss")
    rows: list[list[Value]] = [
        [
            result.family,
            *(result.outcome.get(name) for name in figures),
            *(result.answers.get(name) for name in asked),
        ]
        for result in good
    ]
    notes = [
        "the loss of one objective (nats an answer; GloVe's a squared error) says nothing beside another's; "
        "probes are linear classifiers on the mean of frozen features",
        *(
            f"{result.family} goes a number of times through the text (model.options.epochs), whatever the budget"
            for result in good
            if family(result.family).examples == "words"
        ),
        *(f"{result.family}: {result.error}" for result in results if result.error),
    ]
    return Answer(
        f"{len(good)} families, {question.budget} each, on {', '.join(map(str, question.sources))}",
        (),
        [Table("families", "What came of it", columns, rows)],
        [*_bars(tasks, good), *_curves(good)],
        notes,
    )


def _bars(tasks: Sequence[Task], results: Sequence[Compared]) -> list[Chart]:
    names = [result.family for result in results]
    charts = [
        Chart(
            f"probe_{task.name}", f"Probe: {task.name} (chance {task.chance:.0%})", "bars", "", "right answers",
            "", "share", [Series("right answers", names, [result.answers[task.name] or 0 for result in results])],
        )
        for task in tasks
    ]  # fmt: skip
    writers = [result for result in results if result.outcome.get("bits_per_byte") is not None]
    if writers:
        bits = [result.outcome["bits_per_byte"] for result in writers]
        series = [Series("held-out text", [result.family for result in writers], bits)]
        charts.append(Chart("bits_per_byte", "Bits per byte", "bars", "", "bits per byte", "", "", series))
    return charts


def _curves(results: Sequence[Compared]) -> list[Chart]:
    """Held-out losses on the way, each as a share of its first one."""
    series = [
        Series(
            result.family,
            [seconds for seconds, _ in result.curve],
            [loss / result.curve[0][1] for _, loss in result.curve],
        )
        for result in results
        if len(result.curve) > 1
    ]
    if not series:
        return []
    title = "Held-out loss on the way, as a share of its first measurement"
    return [Chart("curves", title, "lines", "training time", "share", "seconds", "share", series)]
