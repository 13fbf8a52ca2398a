"""Our decoders as Hugging Face architectures: config.json and tensor names, there and back.

Pure functions on dictionaries: `Shape` <-> config, our state dict <-> theirs. A family appears here because
`transformers`, llama.cpp and vLLM know its architecture.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from groundup.errors import UserError
from groundup.shape import Shape

Tensors = dict[str, Tensor]

_ARCHITECTURES = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}

# Our name -> theirs; {i} is the layer.
_LLAMA_NAMES = {
    "embedding": "model.embed_tokens",
    "blocks.{i}.attention_norm": "model.layers.{i}.input_layernorm",
    "blocks.{i}.attention.query": "model.layers.{i}.self_attn.q_proj",
    "blocks.{i}.attention.key": "model.layers.{i}.self_attn.k_proj",
    "blocks.{i}.attention.value": "model.layers.{i}.self_attn.v_proj",
    "blocks.{i}.attention.output": "model.layers.{i}.self_attn.o_proj",
    "blocks.{i}.attention.query_norm": "model.layers.{i}.self_attn.q_norm",
    "blocks.{i}.attention.key_norm": "model.layers.{i}.self_attn.k_norm",
    "blocks.{i}.feedforward_norm": "model.layers.{i}.post_attention_layernorm",
    "blocks.{i}.feedforward.gate": "model.layers.{i}.mlp.gate_proj",
    "blocks.{i}.feedforward.up": "model.layers.{i}.mlp.up_proj",
    "blocks.{i}.feedforward.down": "model.layers.{i}.mlp.down_proj",
    "norm": "model.norm",
    "unembedding": "lm_head",
}
_GPT2_NAMES = {
    "embedding": "transformer.wte",
    "positions": "transformer.wpe",
    "blocks.{i}.attention_norm": "transformer.h.{i}.ln_1",
    "blocks.{i}.attention.query_key_value": "transformer.h.{i}.attn.c_attn",
    "blocks.{i}.attention.output": "transformer.h.{i}.attn.c_proj",
    "blocks.{i}.feedforward_norm": "transformer.h.{i}.ln_2",
    "blocks.{i}.feedforward.up": "transformer.h.{i}.mlp.c_fc",
    "blocks.{i}.feedforward.down": "transformer.h.{i}.mlp.c_proj",
    "norm": "transformer.ln_f",
    "unembedding": "lm_head",
}
# GPT-2 stores these as (in, out), the transpose of a linear layer's weight.
_GPT2_TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


def to_config(shape: Shape, end_of_text: int) -> dict[str, Any]:
    """The contents of `config.json` and the ids of special tokens."""
    common = {
        "architectures": [_ARCHITECTURES[shape.family]],
        "model_type": shape.family,
        "vocab_size": shape.vocabulary_size,
        "tie_word_embeddings": shape.tied,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "dtype": "float32",
    }
    if shape.family == "gpt2":
        return common | {
            "n_layer": shape.num_layers,
            "n_embd": shape.width,
            "n_head": shape.num_heads,
            "n_inner": shape.feedforward_width,
            "n_positions": shape.context,
            "layer_norm_epsilon": shape.norm_epsilon,
            "activation_function": "gelu_new",
            "attn_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "resid_pdrop": 0.0,
        }
    return common | {
        "num_hidden_layers": shape.num_layers,
        "hidden_size": shape.width,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads,
        "head_dim": shape.head_width,
        "intermediate_size": shape.feedforward_width,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.norm_epsilon,
        # transformers 5 reads rope_parameters; transformers 4, llama.cpp and vLLM read rope_theta.
        "rope_theta": shape.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_theta},
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
    }


def from_config(config: dict[str, Any]) -> Shape:
    """The shape that a `config.json` describes; UserError for an architecture that no family of ours has."""
    family = config.get("model_type")
    if family not in _ARCHITECTURES:
        raise UserError(
            f"config.json has model_type={family!r}; groundup reads {', '.join(sorted(_ARCHITECTURES))}"
        )
    if family == "gpt2":
        width, heads = config["n_embd"], config["n_head"]
        _require(config, "activation_function", ("gelu_new",), "gelu_new")
        _require(config, "scale_attn_weights", (True,), True)
        _require(config, "scale_attn_by_inverse_layer_idx", (False,), False)
        return Shape(
            family=family,
            num_layers=config["n_layer"],
            width=width,
            num_heads=heads,
            num_kv_heads=heads,
            head_width=width // heads,
            feedforward_width=config.get("n_inner") or 4 * width,
            vocabulary_size=config["vocab_size"],
            context=config["n_positions"],
            tied=config.get("tie_word_embeddings", True),
            norm_epsilon=config["layer_norm_epsilon"],
        )
    _require(config, "hidden_act", ("silu",), "silu")
    _require(config, "attention_bias", (False,), False)
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    _require(rope, "rope_type" if "rope_type" in rope else "type", ("default",), "default")
    _require(config, "use_sliding_window", (False,), False)
    width, heads = config["hidden_size"], config["num_attention_heads"]
    return Shape(
        family=family,
        num_layers=config["num_hidden_layers"],
        width=width,
        num_heads=heads,
        num_kv_heads=config.get("num_key_value_heads") or heads,
        head_width=config.get("head_dim") or width // heads,
        feedforward_width=config["intermediate_size"],
        vocabulary_size=config["vocab_size"],
        context=config["max_position_embeddings"],
        tied=config.get("tie_word_embeddings", False),
        rope_theta=rope.get("rope_theta") or config.get("rope_theta", 10_000.0),
        norm_epsilon=config["rms_norm_eps"],
    )


def to_tensors(shape: Shape, state: Tensors) -> Tensors:
    """Our state dict under Hugging Face's names, contiguous."""
    rename = _renamer(_names(shape.family))
    if shape.family == "gpt2":
        state = _fuse_query_key_value(state, shape.num_layers)
    renamed = {rename(name): tensor for name, tensor in state.items()}
    return {name: _gpt2_layout(shape, name, tensor).contiguous() for name, tensor in renamed.items()}


def from_tensors(shape: Shape, tensors: Tensors) -> Tensors:
    """Hugging Face's tensors under our names, in float32."""
    rename = _renamer({theirs: ours for ours, theirs in _names(shape.family).items()})
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
    return dict(_split_query_key_value(state)) if shape.family == "gpt2" else state


def _require(config: dict[str, Any], key: str, known: tuple[Any, ...], default: Any) -> None:
    if config.get(key, default) not in known:
        raise UserError(
            f"config.json has {key}={config[key]!r}, which groundup does not know; it reads {known[0]!r}"
        )


def _names(family: str) -> dict[str, str]:
    return _GPT2_NAMES if family == "gpt2" else _LLAMA_NAMES


def _renamer(names: dict[str, str]) -> Callable[[str], str]:
    """A function that renames `layer.3.part.weight` by a table whose names have {i} for the layer."""

    def rename(name: str) -> str:
        module, _, leaf = name.rpartition(".")
        layer = re.search(r"\.(\d+)\.", name)
        pattern = re.sub(r"\.\d+\.", ".{i}.", module + ".", count=1)[:-1]
        if pattern not in names:
            return name
        return names[pattern].replace("{i}", layer.group(1) if layer else "") + f".{leaf}"

    return rename


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
