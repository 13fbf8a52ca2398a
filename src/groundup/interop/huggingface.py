"""Our decoders' tensors under Hugging Face's names, there and back: pure functions on state dicts."""

import re
from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import Tensor

from groundup.interop.decoder_names import names_of
from groundup.interop.names import renamer
from groundup.shape import Shape

Tensors = dict[str, Tensor]

# GPT-2 stores these as (in, out), the transpose of a linear layer's weight.
_GPT2_TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


def to_tensors(shape: Shape, state: Tensors) -> Tensors:
    """Our state dict under Hugging Face's names, contiguous."""
    rename = renamer(names_of(shape.family))
    if shape.family == "gpt2":
        state = _fuse_query_key_value(state, shape.num_layers)
    if shape.num_experts:
        state = dict(_split_experts(state))
    renamed = {rename(name): tensor for name, tensor in state.items()}
    return {name: _gpt2_layout(shape, name, tensor).contiguous() for name, tensor in renamed.items()}


def from_tensors(shape: Shape, tensors: Tensors) -> Tensors:
    """Hugging Face's tensors under our names, in float32."""
    rename = renamer({theirs: ours for ours, theirs in names_of(shape.family).items()})
    if shape.family == "gpt2":
        # The hub's own GPT-2 files lack the prefix, and carry causal masks as if they were weights.
        tensors = {
            name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}": tensor
            for name, tensor in tensors.items()
            if not name.endswith((".attn.bias", ".attn.masked_bias"))
        }
    if shape.tied:
        tensors = {name: tensor for name, tensor in tensors.items() if name != "lm_head.weight"}
    state = {rename(name): _gpt2_layout(shape, name, tensor).float() for name, tensor in tensors.items()}
    if shape.num_experts:
        state = _stack_experts(state)
    return dict(_split_query_key_value(state)) if shape.family == "gpt2" else state


def _gpt2_layout(shape: Shape, name: str, tensor: Tensor) -> Tensor:
    return tensor.t() if shape.family == "gpt2" and name.endswith(_GPT2_TRANSPOSED) else tensor


def _fuse_query_key_value(state: Tensors, num_layers: int) -> Tensors:
    fused = {
        name: tensor for name, tensor in state.items() if not re.search(r"attention\.(query|key|value)\.", name)
    }
    for layer in range(num_layers):
        prefix = f"blocks.{layer}.attention"
        for leaf in ("weight", "bias"):
            parts = [state[f"{prefix}.{part}.{leaf}"] for part in ("query", "key", "value")]
            fused[f"{prefix}.query_key_value.{leaf}"] = torch.cat(parts)
    return fused


def _split_query_key_value(state: Tensors) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in state.items():
        if ".query_key_value." not in name:
            yield name, tensor
            continue
        for part, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
            yield name.replace("query_key_value", part), piece


def _split_experts(state: Tensors) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in state.items():
        if ".experts." not in name:
            yield name, tensor
            continue
        for expert, matrix in enumerate(tensor):
            yield name.replace(".experts.", f".experts.{expert}."), matrix


def _stack_experts(state: Tensors) -> Tensors:
    """The experts' matrices stacked in the order of their numbers; where one is missing, a stack too small."""
    stacked = {name: tensor for name, tensor in state.items() if ".experts." not in name}
    stacks: defaultdict[str, dict[int, Tensor]] = defaultdict(dict)
    for name, tensor in state.items():
        if found := re.fullmatch(r"(.+\.experts)\.(\d+)\.(.+)", name):
            stacks[f"{found[1]}.{found[3]}"][int(found[2])] = tensor
    return stacked | {
        name: torch.stack([matrix for _, matrix in sorted(matrices.items())]) for name, matrices in stacks.items()
    }
