"""The reference: the policy as it was in the beginning, from which it shall not go far."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from groundup.data.turn_rows import TurnRows
from groundup.model.decoder import Decoder
from groundup.model.lora import Adapter
from groundup.objective.base import Batch
from groundup.objective.log_probs import token_log_probs
from groundup.objective.preference import collate, sequence_log_probs
from groundup.plan.hardware import Precision
from groundup.train.compile import eager
from groundup.train.precision import autocast, reading_precision


def twin_of(policy: Decoder) -> Decoder:
    """A copy of what is trained of the policy, on the same memory where it is frozen."""
    shared = {id(weight): weight for weight in policy.parameters() if not weight.requires_grad}
    return copy.deepcopy(policy, dict(shared))


def reference_of(policy: Decoder) -> Decoder:
    """The policy before it learns anything, in evaluation mode, frozen.

    What is frozen of the policy is not copied but shared, and adapters are left out: with adapters the reference
    takes no memory of its own.
    """
    reference = twin_of(policy)
    for name, module in list(reference.named_modules()):
        if isinstance(module, Adapter):
            reference.set_submodule(name, module.base)
    return reference.requires_grad_(False).eval()


def share_equal(model: nn.Module, other: nn.Module) -> None:
    """Let a frozen `model` hold no memory for weights that `other` has, too, under the same names.

    What stands beside an adapter goes by the name that it had without one.
    """
    theirs = dict(other.named_parameters())
    for name, weight in list(model.named_parameters()):
        twin = theirs.get(name.replace(".base.", "."))
        if twin is not None and twin.shape == weight.shape and torch.equal(twin, weight):
            holder, _, own = name.rpartition(".")
            setattr(model.get_submodule(holder), own, twin)


@torch.no_grad()
def log_probs_in_parts(model: nn.Module, batch: Batch, temperature: float, rows: int, device: str) -> Tensor:
    """As `token_log_probs`, (B, T) on the CPU, so many rows at a time and without dropout."""
    was_training = model.training
    model.eval()
    parts = [batch.rows(slice(first, first + rows)).to(device) for first in range(0, len(batch.inputs_BT), rows)]
    with eager():
        found = [token_log_probs(model, part, temperature).cpu() for part in parts]
    model.train(was_training)
    return torch.cat(found)


@torch.no_grad()
def reference_table(
    model: nn.Module, rows: TurnRows, *, device: str, precision: Precision, at_once: int = 16
) -> Tensor:
    """What the reference says of the two answers of each example, (N, 2) float32 on the CPU, in nats.

    Rows are (2, 3, L); an example's place in the table is its number, and NaN stands in places of which there is
    no row. The model is read in evaluation mode: the policy itself before it learns, or with its adapters
    switched off.
    """
    was_training = model.training
    model.eval()
    numbers, found = [], []
    for first in range(0, rows.num_rows, at_once):
        windows = rows.rows(first, at_once)
        numbers.append(torch.from_numpy(windows[:, 0, 2, 0]))
        with eager(), autocast(device, reading_precision(precision)):
            found.append(sequence_log_probs(model, collate(windows).to(device)).float().cpu())
    model.train(was_training)
    numbers_N = torch.cat(numbers)
    table_N2 = torch.full((int(numbers_N.max()) + 1, 2), torch.nan)
    table_N2[numbers_N] = torch.cat(found)
    return table_N2


def held_bytes(models: Iterable[nn.Module]) -> list[int]:
    """The bytes of each model's parameters, those left out that a model before it has too."""
    known: set[int] = set()
    found = []
    for model in models:
        own = {weight.data_ptr(): weight.nbytes for weight in model.parameters() if weight.data_ptr() not in known}
        known |= own.keys()
        found.append(sum(own.values()))
    return found
