"""Which parameters decay, and which are the matrices inside a model."""

from typing import Any

from torch import nn

from groundup.model.experts import StackedLinear
from groundup.model.vocabulary import TokenRows


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups. Decay acts on matrices only: to shrink norms and biases towards zero has no meaning."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in parameters if parameter.dim() >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in parameters if parameter.dim() < 2], "weight_decay": 0.0},
    ]


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The matrices that map one hidden state to another: neither embeddings nor the way back to words.

    Those of experts come as stacks (E, out, in).
    """
    tables: list[nn.Module] = [
        module for module in model.modules() if isinstance(module, nn.Embedding | TokenRows)
    ]
    if isinstance(unembedding := getattr(model, "unembedding", None), nn.Linear):
        tables.append(unembedding)
    outer = {id(parameter) for table in tables for parameter in table.parameters()}
    stacks = {id(module.weight) for module in model.modules() if isinstance(module, StackedLinear)}
    return [
        parameter
        for parameter in model.parameters()
        if id(parameter) in stacks or (parameter.dim() == 2 and id(parameter) not in outer)
    ]
