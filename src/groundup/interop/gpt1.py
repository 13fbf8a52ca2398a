"""GPT's folder, `openai-gpt`: GPT-2's tensors, two of them under other names. Nothing here needs torch."""

from collections.abc import Mapping
from typing import Any

from groundup.errors import UserError
from groundup.interop.format import Format
from groundup.interop.names import renamer
from groundup.shape import Shape

# GPT-2's name -> GPT's.
_NAMES = {"wte": "tokens_embed", "wpe": "positions_embed"}


def to_config(shape: Shape, special: Mapping[str, int]) -> dict[str, Any]:
    """The contents of `config.json`.

    `transformers` has no name for a feed-forward width other than four times the width; it stands under that of
    GPT-2, and `transformers` then says that the weights do not fit.
    """
    return {
        "architectures": ["OpenAIGPTLMHeadModel"],
        "model_type": "openai-gpt",
        "vocab_size": shape.vocabulary_size,
        "tie_word_embeddings": shape.tied,
        "bos_token_id": special["<|endoftext|>"],
        "eos_token_id": special["<|endoftext|>"],
        "dtype": "float32",
        "n_layer": shape.num_layers,
        "n_embd": shape.width,
        "n_head": shape.num_heads,
        "n_positions": shape.context,
        "layer_norm_epsilon": shape.norm_epsilon,
        "afn": "gelu",  # which is the tanh form here
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
    } | ({} if shape.feedforward_width == 4 * shape.width else {"n_inner": shape.feedforward_width})


def from_config(config: dict[str, Any]) -> Shape:
    """The shape; UserError for an activation that is not GPT's."""
    if config.get("afn", "gelu") != "gelu":
        raise UserError(f"config.json has afn={config['afn']!r}, which groundup does not know; it reads 'gelu'")
    width, heads = config["n_embd"], config["n_head"]
    return Shape(
        family="gpt1",
        num_layers=config["n_layer"],
        width=width,
        num_heads=heads,
        num_kv_heads=heads,
        head_width=width // heads,
        feedforward_width=config.get("n_inner") or 4 * width,
        vocabulary_size=config["vocab_size"],
        context=config["n_positions"],
        tied=config.get("tie_word_embeddings", True),
        norm_epsilon=config.get("layer_norm_epsilon", 1e-5),
    )


def to_tensors(shape: Shape, state: dict[str, Any]) -> dict[str, Any]:
    """Our state dict under Hugging Face's names."""
    from groundup.interop.huggingface import to_tensors as to_gpt2

    rename = renamer({f"transformer.{gpt2}": f"transformer.{gpt}" for gpt2, gpt in _NAMES.items()})
    return {rename(name): tensor for name, tensor in to_gpt2(_as_gpt2(shape), state).items()}


def from_tensors(shape: Shape, tensors: dict[str, Any]) -> dict[str, Any]:
    """Hugging Face's tensors, with the prefix `transformer.` or without, under our names."""
    from groundup.interop.huggingface import from_tensors as from_gpt2

    rename = renamer({gpt: gpt2 for gpt2, gpt in _NAMES.items()})
    bare = {rename(name.removeprefix("transformer.")): tensor for name, tensor in tensors.items()}
    return from_gpt2(_as_gpt2(shape), bare)


def _as_gpt2(shape: Shape) -> Shape:
    return shape.model_copy(update={"family": "gpt2"})


FORMAT = Format("openai-gpt", "gpt1", to_config, from_config, to_tensors, from_tensors)
