"""What training keeps of every parameter from step to step, by recipe, and how ZeRO divides it over devices."""

from dataclasses import dataclass
from typing import NamedTuple

from groundup.errors import UserError, nearest
from groundup.plan.cluster.layout import Zero


@dataclass(frozen=True)
class StateRecipe:
    """Bytes a parameter: of weights as they are computed with, gradients, master weights, and optimizer states.

    `value_bytes` is the size of what is computed in between, the activations. `source` says who counts so.
    """

    name: str
    label: str
    weights: float
    gradients: float
    master: float
    optimizer: float
    source: str
    value_bytes: int = 2

    @property
    def total(self) -> float:
        """All of them, on one device."""
        return self.weights + self.gradients + self.master + self.optimizer


class StateBytes(NamedTuple):
    """Bytes on one device; `optimizer` holds the master weights too, since ZeRO divides them together."""

    weights: float
    gradients: float
    optimizer: float

    @property
    def total(self) -> float:
        """All three."""
        return sum(self)


_PLAYBOOK = "Ultra-Scale Playbook 2025, memory of weights, gradients and optimizer states"
_RECIPES = (
    StateRecipe("fp32", "float32 throughout, AdamW", 4, 4, 0, 8, _PLAYBOOK, value_bytes=4),
    StateRecipe("bf16", "bfloat16, float32 master weights, AdamW", 2, 2, 4, 8, _PLAYBOOK),
    StateRecipe("bf16-main-grads", "bfloat16, gradients only in float32, AdamW", 2, 4, 4, 8,
                "Megatron-LM theoretical_memory_usage.py (18 B; 6 + 12/d distributed)"),
    StateRecipe("bf16-fp32-grads", "bfloat16, gradients in both, AdamW", 2, 6, 4, 8, _PLAYBOOK),
    StateRecipe("autocast", "float32 weights, bfloat16 copies of them in the forward pass, AdamW", 6, 4, 0, 8,
                "torch.autocast's cache; groundup.plan.memory"),
    StateRecipe("bf16-pure", "bfloat16 throughout, AdamW", 2, 2, 0, 4, "2 B of each; no master weights"),
    StateRecipe("8bit-adam", "bfloat16, float32 master weights, 8-bit AdamW", 2, 2, 4, 2,
                "Dettmers et al. 2022, arXiv:2110.02861; block constants left out"),
    StateRecipe("muon", "bfloat16, float32 master weights, Muon", 2, 2, 4, 4,
                "one float32 momentum (EleutherAI cookbook); AdamW's second for embeddings left out"),
    StateRecipe("sgd", "bfloat16, float32 master weights, SGD with momentum", 2, 2, 4, 4,
                "one float32 momentum (EleutherAI cookbook)"),
)  # fmt: skip
STATE_RECIPES: dict[str, StateRecipe] = {recipe.name: recipe for recipe in _RECIPES}


def state_recipe(name: str) -> StateRecipe:
    """The recipe called `name`; UserError with the nearest known name otherwise."""
    if name not in STATE_RECIPES:
        raise UserError(f"unknown state recipe '{name}'{nearest(name, STATE_RECIPES)}")
    return STATE_RECIPES[name]


def state_bytes(recipe: StateRecipe, parameters: float, zero: Zero = 0, shards: int = 1) -> StateBytes:
    """Bytes on a device that computes with `parameters`, divided over `shards` devices that have the same.

    ZeRO-1 divides master weights and optimizer states over them, ZeRO-2 gradients too, ZeRO-3 also weights
    (Rajbhandari et al. 2020, arXiv:1910.02054).
    """
    return StateBytes(
        weights=parameters * recipe.weights / (shards if zero >= 3 else 1),
        gradients=parameters * recipe.gradients / (shards if zero >= 2 else 1),
        optimizer=parameters * (recipe.master + recipe.optimizer) / (shards if zero >= 1 else 1),
    )
