"""GGUF files, the format of llama.cpp, of decoders of Llama's and Qwen3's shapes: read whole, as a model of ours.

Weights may be of any type that the package `gguf` can turn into float32; they are float32 from then on.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from groundup.errors import UserError
from groundup.interop.gguf_tokenizer import definition_from
from groundup.interop.names import renamer
from groundup.shape import Shape
from groundup.tokenizer import Tokenizer

ARCHITECTURES = ("llama", "qwen3")
# llama.cpp's name -> ours; {i} is the layer.
_NAMES = {
    "token_embd": "embedding",
    "blk.{i}.attn_norm": "blocks.{i}.attention_norm",
    "blk.{i}.attn_q": "blocks.{i}.attention.query",
    "blk.{i}.attn_k": "blocks.{i}.attention.key",
    "blk.{i}.attn_v": "blocks.{i}.attention.value",
    "blk.{i}.attn_output": "blocks.{i}.attention.output",
    "blk.{i}.attn_q_norm": "blocks.{i}.attention.query_norm",
    "blk.{i}.attn_k_norm": "blocks.{i}.attention.key_norm",
    "blk.{i}.ffn_norm": "blocks.{i}.feedforward_norm",
    "blk.{i}.ffn_gate": "blocks.{i}.feedforward.gate",
    "blk.{i}.ffn_up": "blocks.{i}.feedforward.up",
    "blk.{i}.ffn_down": "blocks.{i}.feedforward.down",
    "output_norm": "norm",
    "output": "unembedding",
}
# What a damaged file can make of a reader that trusts it.
_DAMAGE = (ValueError, KeyError, IndexError, TypeError, OverflowError, OSError, NotImplementedError)


class GgufFile:
    """An opened file: `shape`, `state()` and `tokenizer()`.

    UserError where the package is missing, the file is damaged, or no family of ours computes what is in it.
    """

    def __init__(self, file: Path):
        try:
            from gguf import GGUFReader
        except ImportError:
            raise UserError(
                f"reading {file} needs the package gguf, which is not here; pip install 'groundup[gguf]'"
            ) from None
        self._file = file
        try:
            self._reader = GGUFReader(file)
            self.shape = self._shape()
        except _DAMAGE as error:
            raise self._refusal(error) from None

    def state(self) -> dict[str, Tensor]:
        """The weights under our names, float32, on the CPU."""
        from gguf import dequantize

        rename, shape = renamer(_NAMES), self.shape
        state = {}
        try:
            for stored in self._reader.tensors:
                values = np.require(dequantize(stored.data, stored.tensor_type), np.float32, ["C", "W"])
                state[rename(stored.name)] = torch.from_numpy(values)
        except _DAMAGE as error:
            raise self._refusal(error) from None
        for name, heads in (("query", shape.num_heads), ("key", shape.num_kv_heads)):
            for layer in range(shape.num_layers if shape.family == "llama" else 0):
                place = f"blocks.{layer}.attention.{name}.weight"
                if place in state:
                    state[place] = _half_split(state[place], heads)
        return state

    def tokenizer(self) -> Tokenizer:
        """The tokenizer, with its special tokens' roles and chat template."""
        try:
            return Tokenizer(definition_from(partial(self._value, default=None)))
        except (*_DAMAGE, UserError) as error:
            raise self._refusal(error) from None

    def _shape(self) -> Shape:
        family = self._value("general.architecture")
        if family not in ARCHITECTURES:
            raise ValueError(f"its architecture is {family!r}; groundup reads {', '.join(ARCHITECTURES)}")

        def value(key: str, *default: Any) -> Any:
            return self._value(f"{family}.{key}", *default)

        tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        width, num_heads = value("embedding_length"), value("attention.head_count")
        head_width = value("attention.key_length", width // num_heads)
        if value("rope.scaling.type", "none") != "none" or "rope_freqs.weight" in tensors:
            raise ValueError("its rotary positions are scaled, which no family here computes")
        if value("rope.dimension_count", head_width) != head_width or value("expert_count", 0):
            raise ValueError("it turns a part of each head, or has experts, which no family here computes")
        return Shape(
            family=family,
            num_layers=value("block_count"),
            width=width,
            num_heads=num_heads,
            num_kv_heads=value("attention.head_count_kv", num_heads),
            head_width=head_width,
            feedforward_width=value("feed_forward_length"),
            vocabulary_size=int(tensors["token_embd.weight"].shape[1]),
            context=value("context_length"),
            tied="output.weight" not in tensors,
            rope_theta=_shortest(value("rope.freq_base", 10_000.0)),
            norm_epsilon=_shortest(value("attention.layer_norm_rms_epsilon")),
        )

    def _value(self, key: str, *default: Any, **named: Any) -> Any:
        """What the file says under `key`; KeyError where it says nothing and there is no default."""
        field = self._reader.get_field(key)
        if field is not None:
            return field.contents()
        if default or named:
            return default[0] if default else named["default"]
        raise KeyError(key)

    def _refusal(self, error: Exception) -> UserError:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        return UserError(f"{self._file} is no GGUF file that groundup reads: {' '.join(reason.split())}")


def _half_split(weight_OI: Tensor, num_heads: int) -> Tensor:
    """From rows in which the two channels that rotary positions turn are neighbours, as Llama's first code had it.

    Ours, as Hugging Face's, stand half a head apart.
    """
    return weight_OI.unflatten(0, (num_heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def _shortest(value: float) -> float:
    """The number that was meant: the shortest one that is stored as this float32."""
    return float(str(np.float32(value)))
