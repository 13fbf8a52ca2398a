"""Word vectors for a model that reads them and was given none: GloVe, learnt from the run's own pairs."""

import tempfile
from pathlib import Path

from rich.console import Console

from groundup.pipeline import words
from groundup.pipeline.display import Display
from groundup.pipeline.families.rows import pairs_of
from groundup.pipeline.word_bars import WordBars
from groundup.recipe import Recipe
from groundup.run import Run
from groundup.words.settings import GloveSettings, TextSettings

_EPOCHS, _WINDOW, _MIN_COUNT = 15, 10, 2
# In the run's own folder, so that the run can be moved.
_FOLDER = "vectors"


def learn_vectors(recipe: Recipe, run: Run, width: int, display: Display) -> None:
    """Write `vectors/` into the run's folder, of both sides of the pairs, and name it in the recipe."""
    pairs, _ = pairs_of(recipe)
    with tempfile.TemporaryDirectory() as folder, display.stage("learning word vectors (GloVe)", None):
        text = Path(folder) / "pairs.txt"
        text.write_text("\n\n".join(side for pair in pairs.pairs for side in pair), "utf-8")
        settings = GloveSettings(dimension=width, window=_WINDOW, epochs=_EPOCHS, seed=recipe.seed)
        source = TextSettings(sources=[str(text)], split="blank-lines", min_count=_MIN_COUNT)
        words.train(source, settings, run.folder / _FOLDER, WordBars(Console(quiet=True)))
    recipe.model.options["vectors"] = _FOLDER
