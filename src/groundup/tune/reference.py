"""The reference: the policy as it was in the beginning, from which it shall not go far."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from groundup.model.decoder import Decoder
from groundup.model.lora import Adapter
from groundup.objective.base import Batch
from groundup.objective.log_probs import token_log_probs


def reference_of(policy: Decoder) -> Decoder:
    """The policy before it learns anything, in evaluation mode, frozen.

    What is frozen of the policy is not copied but shared, and adapters are left out: with adapters the reference
    takes no memory of its own.
    """
    shared = {id(weight): weight for weight in policy.parameters() if not weight.requires_grad}
    reference = copy.deepcopy(policy, dict(shared))
    for name, module in list(reference.named_modules()):
        if isinstance(module, Adapter):
            reference.set_submodule(name, module.base)
    return reference.requires_grad_(False).eval()


@torch.no_grad()
def log_probs_in_parts(model: nn.Module, batch: Batch, temperature: float, rows: int, device: str) -> Tensor:
    """As `token_log_probs`, (B, T) on the CPU, so many rows at a time."""
    parts = [batch.rows(slice(first, first + rows)).to(device) for first in range(0, len(batch.inputs_BT), rows)]
    return torch.cat([token_log_probs(model, part, temperature).cpu() for part in parts])


def held_bytes(models: Iterable[nn.Module]) -> list[int]:
    """The bytes of each model's parameters, those left out that a model before it has too."""
    known: set[int] = set()
    found = []
    for model in models:
        own = {weight.data_ptr(): weight.nbytes for weight in model.parameters() if weight.data_ptr() not in known}
        known |= own.keys()
        found.append(sum(own.values()))
    return found
