"""What `groundup bench` measures: a recipe's training step on this machine, with nothing left open."""

from dataclasses import asdict, dataclass
from typing import Any

from groundup.pipeline.bench_process import Trial
from groundup.plan.answer import plan
from groundup.plan.budget import parse_budget
from groundup.plan.hardware import Hardware
from groundup.plan.parameters import total
from groundup.recipe import Recipe
from groundup.shape import family
from groundup.train.machine import measure
from groundup.train.optimizers import find_optimizer

# As though there were text enough: only the shape is wanted of the plan.
_CORPUS_BYTES = 1e9
_DECIDE_THE_SHAPE = (
    "model.num_layers", "model.width", "model.context", "tokenizer.vocabulary_size", "train.batch_size",
)  # fmt: skip
# Where a recipe gives all of these, the planner is asked for the rest alone, whatever the budget.
_ANY_BUDGET = "100steps"


@dataclass(frozen=True)
class Subject:
    """A recipe's training step, the machine as measured, and the fields that the planner had to choose.

    `trial.settings.compile` is still as the recipe says: `auto`, `on` or `off`.
    """

    recipe: Recipe
    trial: Trial
    hardware: Hardware
    chosen: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """What is said of it with `--json` and on pages."""
        trial = self.trial
        return {
            "recipe": self.recipe.name,
            "budget": self.recipe.budget,
            "chosen_by_the_planner": list(self.chosen),
            "shape": trial.shape.model_dump(),
            "parameters": total(trial.shape),
            "batch_size": trial.batch_size,
            "micro_batch": trial.micro_batch,
            "accumulation": trial.accumulation,
            "step_tokens": trial.step_tokens,
            "precision": trial.precision,
            "recompute": trial.settings.recompute,
            "optimizer": trial.settings.optimizer,
            "threads": trial.threads,
            "text": "random tokens",
            "hardware": asdict(self.hardware),
        }


def make_subject(recipe: Recipe) -> Subject:
    """Measure the machine, and let the planner fill in what the recipe leaves open.

    UserError for a family, optimizer or device that is not there, and where nothing fits the memory.
    """
    family(recipe.model.family)
    find_optimizer(recipe.train.optimizer)
    parse_budget(recipe.budget)
    hardware = measure(recipe.train)
    return subject_on(recipe, hardware)


def subject_on(recipe: Recipe, hardware: Hardware) -> Subject:
    """The same on a machine that was measured before."""
    chosen = tuple(field for field in _DECIDE_THE_SHAPE if _value(recipe, field) is None)
    planned = plan(recipe.budget if chosen else _ANY_BUDGET, hardware, _CORPUS_BYTES, recipe)
    settings = planned.resolve(recipe).train.model_copy(update={"compile": recipe.train.compile})
    trial = Trial(
        shape=planned.shape,
        settings=settings,
        batch_size=planned.batch_size,
        precision=planned.precision,
        device=hardware.device,
        threads=hardware.threads,
        seed=recipe.seed,
    )
    return Subject(recipe, trial, hardware, chosen)


def _value(recipe: Recipe, field: str) -> Any:
    section, name = field.split(".")
    return getattr(getattr(recipe, section), name)
