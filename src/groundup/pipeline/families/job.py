"""A planned run of a family, with everything that training and evaluation need."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from groundup.model.base import Model, ReadsSpelling, ReadsVectors
from groundup.model.registry import build_any
from groundup.objective import OBJECTIVES, Objective, Setting
from groundup.pipeline.display import Display
from groundup.pipeline.families.rows import Rows
from groundup.plan.budget import Kind
from groundup.plan.given import GivenPlan
from groundup.plan.hardware import Hardware
from groundup.recipe import Recipe
from groundup.run import Run
from groundup.seeds import derive
from groundup.shape import Shape, family
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.whole_words import starts_word
from groundup.words.folder import vectors_file
from groundup.words.formats import read as read_vectors


@dataclass(frozen=True)
class FamilyJob:
    """A run whose plan is made."""

    run: Run
    recipe: Recipe
    plan: GivenPlan
    hardware: Hardware
    tokenizer: Tokenizer | None
    rows: Rows
    display: Display
    budget_kind: Kind

    @cached_property
    def objective(self) -> Objective:
        """What the family learns."""
        return make_objective(self.recipe, self.plan.shape, self.tokenizer)

    @cached_property
    def asking(self) -> Objective:
        """The same for held-out rows, with draws of its own: every evaluation asks the same."""
        return make_objective(self.recipe, self.plan.shape, self.tokenizer, "held-out")

    @property
    def by_clock(self) -> bool:
        """Whether the time is given."""
        return self.budget_kind == "seconds"


def make_objective(
    recipe: Recipe, shape: Shape, tokenizer: Tokenizer | None, purpose: str = "objective"
) -> Objective:
    """The objective of the recipe's family for this text."""
    make, seed = OBJECTIVES[family(shape.family).objective], derive(recipe.seed, purpose)
    setting = Setting(seed=seed, shape=shape, label_smoothing=recipe.train.label_smoothing)
    if tokenizer is None:
        return make(setting)
    border = tokenizer.end_of_text if recipe.data.packing == "documents" else None
    return make(
        replace(setting, special=tokenizer.special_tokens, border=border, starts_word_V=starts_word(tokenizer))
    )


def make_model(recipe: Recipe, run: Run, shape: Shape, tokenizer: Tokenizer | None, device: str) -> Model:
    """A new model, which has been told of its tokens' spelling, and of word vectors, where it asks for them.

    The file or folder of vectors is looked for in the run's folder first.
    """
    model = build_any(shape, derive(recipe.seed, "weights"), device)
    if tokenizer is not None and isinstance(model, ReadsSpelling):
        model.read_spelling(_token_bytes(tokenizer))
    if tokenizer is not None and isinstance(model, ReadsVectors) and (named := shape.options.get("vectors")):
        path = run.folder / named if (run.folder / named).exists() else Path(named)
        vectors = read_vectors(vectors_file(path) if path.is_dir() else path)
        texts = [token.decode("utf-8", "replace") for token in _token_bytes(tokenizer)]
        model.read_vectors(dict(zip(vectors.words, vectors.vectors, strict=True)), texts)
    return model


def _token_bytes(tokenizer: Tokenizer) -> Sequence[bytes]:
    """The bytes of each id; of special tokens none."""
    lengths = tokenizer.byte_lengths
    return [tokenizer.token_bytes(id) if lengths[id] else b"" for id in range(tokenizer.vocabulary_size)]
