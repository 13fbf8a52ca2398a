"""word2vec and GloVe as runs of a recipe: the work of `groundup words train` in a run's folder."""

import os
from typing import Any

from rich.console import Console

from groundup.clock import Clock
from groundup.pipeline import words
from groundup.pipeline.display import Display
from groundup.pipeline.word_bars import WordBars
from groundup.recipe import Recipe
from groundup.run import Run
from groundup.train.checkpoints import TrainState
from groundup.train.trainer import Interrupted
from groundup.words.settings import Settings, TextSettings


def carry_on_words(run: Run, clock: Clock, display: Display) -> dict[str, Any]:
    """Learn the vectors of a run's text into `model/`, or go on where they were stopped; the outcome.

    The recipe's `model.options` are those of `groundup words train`; `options.epochs` and not the budget says how
    long it learns. UserError for what is not among them, train.trainer.Interrupted after a signal, when the
    vectors are saved.
    """
    with run.locked():
        display.log = run.log
        display.say(f"run {run.folder}", style="bold")
        bars = WordBars(display.console if display.console.is_terminal else Console(quiet=True))
        if (run.model / "words.json").is_file():
            figures = words.resume(run.model, bars)
        else:
            text, chosen = _settings(run.recipe)
            figures = words.train(text, chosen, run.model, bars)
        if figures["signal"] is not None:
            raise Interrupted(TrainState(seconds=figures["seconds"]), figures["signal"])
        clock.lap("train")
        outcome = _outcome(run, figures, clock)
        run.save_outcome(outcome)
        display.say(
            f"done: {figures['vocabulary_size']:,} words of {figures['dimension']} numbers in "
            f"{figures['seconds']:.0f} s", style="bold"
        )  # fmt: skip
        display.say(f"try     groundup neighbours {run.folder} king")
        return outcome


def _settings(recipe: Recipe) -> tuple[TextSettings, Settings]:
    options, data = dict(recipe.model.options), recipe.data
    text = {name: options.pop(name) for name in ("pattern", "lower", "min_count") if name in options}
    kind = options.pop("kind", "skipgram") if recipe.model.family == "word2vec" else "glove"
    given = {
        "dimension": recipe.model.width, "lr": recipe.train.lr, "seed": recipe.seed,
        "threads": recipe.train.threads or os.cpu_count(),
    }  # fmt: skip
    return (
        TextSettings(sources=data.sources, field=data.field, split=data.split, **text),
        words.settings(kind, options | given),
    )


def _outcome(run: Run, figures: dict[str, Any], clock: Clock) -> dict[str, Any]:
    return {
        "run": str(run.folder),
        "family": run.recipe.model.family,
        "parameters": 2 * figures["vocabulary_size"] * figures["dimension"],
        "loss": figures["loss"],
        "vocabulary_size": figures["vocabulary_size"],
        "tokens": figures["tokens"],
        "train_seconds": figures["seconds"],
        "total_seconds": sum(clock.stages.values()),
        "stages": dict(clock.stages),
    }
