"""The ready recipes of regularisation: they differ in that alone, and each ends below the one without any."""

from pathlib import Path

import pytest
from rich.console import Console

from groundup.pipeline.build import build
from groundup.pipeline.display import Display
from groundup.recipe import Recipe, load
from tests.cli.support import make_text

QUIET = Display(Console(quiet=True))
WITHOUT = {
    "dropout": {"model.dropout": 0.0},
    "label-smoothing": {"train.label_smoothing": 0.0},
    "weight-decay": {"train.weight_decay": 0.1},
    "early-stopping": {"train.patience": None},
    "ema": {"train.ema": None},
}
# Learnt by heart in seconds.
_SHORT = {"budget": "160steps", "data.holdout_bytes": 3500, "tokenizer.vocabulary_size": 300, "train.lr": 1e-2}
_SHORT |= {"model.context": 32, "train.checkpoint_steps": 1000, "sample.tokens": 1}


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """9 kB, of which 3.5 kB are held out."""
    path = tmp_path_factory.mktemp("little") / "words.txt"
    path.write_text(make_text(9_000, seed=3), "utf-8")
    return path


def _loss(recipe: Recipe, little: Path, folder: Path) -> float:
    recipe.data.sources = [str(little)]
    return float(build(recipe, folder, QUIET)["loss"])


@pytest.fixture(scope="module")
def plain_loss(little: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    recipe = load("dropout", _SHORT | WITHOUT["dropout"])
    return _loss(recipe, little, tmp_path_factory.mktemp("plain") / "run")


def test_without_it_they_are_one_recipe() -> None:
    recipes = [
        load(name, without).model_dump(exclude={"name", "description"}) for name, without in WITHOUT.items()
    ]
    assert all(recipe == recipes[0] for recipe in recipes)


@pytest.mark.parametrize("name", WITHOUT)
def test_it_ends_below_the_recipe_without(name: str, plain_loss: float, little: Path, tmp_path: Path) -> None:
    assert _loss(load(name, _SHORT), little, tmp_path / "run") < plain_loss
