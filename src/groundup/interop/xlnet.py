"""XLNet as Hugging Face's folders have it. Nothing here needs torch.

Attention's matrices are stored with the heads as a dimension of their own, (D, H, d), those that read the stream
as the transpose of a linear layer's weight. There is no word for the context, which relative positions do not
limit: it stands under a name of our own, and is that of XLNet's training where others wrote the folder.
"""

from collections.abc import Mapping
from typing import Any

from groundup.errors import UserError
from groundup.interop.format import Format, require
from groundup.interop.names import renamer
from groundup.shape import Shape

_CONTEXT = 512
# Our name -> theirs; {i} is the layer.
_NAMES = {
    "embedding": "transformer.word_embedding",
    "blocks.{i}.attention_norm": "transformer.layer.{i}.rel_attn.layer_norm",
    "blocks.{i}.feedforward.up": "transformer.layer.{i}.ff.layer_1",
    "blocks.{i}.feedforward.down": "transformer.layer.{i}.ff.layer_2",
    "blocks.{i}.feedforward_norm": "transformer.layer.{i}.ff.layer_norm",
    "unembedding": "lm_loss",
}
# Single tensors, of the model and of each layer's attention.
_OUTER = {"query": "transformer.mask_emb", "output_bias": "lm_loss.bias"}
_ATTENTION = {
    "query.weight": "q",
    "key.weight": "k",
    "value.weight": "v",
    "position.weight": "r",
    "output.weight": "o",
    "content_bias": "r_w_bias",
    "position_bias": "r_r_bias",
    "segment_bias": "r_s_bias",
    "segments.weight": "seg_embed",
}
_TRANSPOSED = ("q", "k", "v", "r")
_REQUIRED = {
    "ff_activation": "gelu",
    "attn_type": "bi",
    "bi_data": False,
    "clamp_len": -1,
    "same_length": False,
    "untie_r": True,
}


def to_config(shape: Shape, special: Mapping[str, int]) -> dict[str, Any]:
    """The contents of `config.json`."""
    recurrent = bool(shape.options.get("recurrence", True))
    return _REQUIRED | {
        "architectures": ["XLNetLMHeadModel"],
        "model_type": "xlnet",
        "vocab_size": shape.vocabulary_size,
        "tie_word_embeddings": shape.tied,
        "d_model": shape.width,
        "n_layer": shape.num_layers,
        "n_head": shape.num_heads,
        "d_head": shape.head_width,
        "d_inner": shape.feedforward_width,
        "layer_norm_eps": shape.norm_epsilon,
        "dropout": shape.dropout,
        "mem_len": shape.context // 2 if recurrent else None,
        "trained_context": shape.context,
        "bos_token_id": special["<|endoftext|>"],
        "eos_token_id": special["<|endoftext|>"],
        "pad_token_id": None,
        "dtype": "float32",
    }


def from_config(config: dict[str, Any]) -> Shape:
    """The shape that a `config.json` describes; UserError for a variant that we do not compute."""
    for key, known in _REQUIRED.items():
        require(config, key, [known], known)
    width, heads = config["d_model"], config["n_head"]
    return Shape(
        family="xlnet",
        num_layers=config["n_layer"],
        width=width,
        num_heads=heads,
        num_kv_heads=heads,
        head_width=config.get("d_head") or width // heads,
        feedforward_width=config["d_inner"],
        vocabulary_size=config["vocab_size"],
        context=config.get("trained_context", _CONTEXT),
        tied=config.get("tie_word_embeddings", True),
        norm_epsilon=config["layer_norm_eps"],
        dropout=config.get("dropout", 0.1),
        options={} if config.get("mem_len") else {"recurrence": False},
    )


def to_tensors(shape: Shape, state: dict[str, Any]) -> dict[str, Any]:
    """Our state dict under Hugging Face's names."""
    rename = renamer(_NAMES)
    heads = (shape.num_heads, shape.head_width)
    tensors = {}
    for name, tensor in state.items():
        block, _, part = name.partition(".attention.")
        if part:
            theirs = _ATTENTION[part]
            whole = tensor.t() if theirs in _TRANSPOSED else tensor
            layer = block.removeprefix("blocks.")
            tensors[f"transformer.layer.{layer}.rel_attn.{theirs}"] = whole.unflatten(-1, heads).contiguous()
        elif name == "query":
            tensors[_OUTER[name]] = tensor[None, None].contiguous()
        else:
            tensors[_OUTER.get(name) or rename(name)] = tensor.contiguous()
    return tensors


def from_tensors(shape: Shape, tensors: dict[str, Any]) -> dict[str, Any]:
    """Hugging Face's tensors under our names, in float32; UserError where there is no head."""
    if _OUTER["output_bias"] not in tensors:
        raise UserError(
            "the folder holds XLNet's body without the head that predicts tokens; "
            "save it from transformers as XLNetLMHeadModel"
        )
    rename = renamer({theirs: ours for ours, theirs in _NAMES.items()})
    outer = {theirs: ours for ours, theirs in _OUTER.items()}
    attention = {theirs: ours for ours, theirs in _ATTENTION.items()}
    state = {}
    for name, tensor in tensors.items():
        block, _, part = name.partition(".rel_attn.")
        if part in attention:
            whole = tensor.flatten(-2)
            layer = block.removeprefix("transformer.layer.")
            state[f"blocks.{layer}.attention.{attention[part]}"] = whole.t() if part in _TRANSPOSED else whole
        elif not (shape.tied and name == "lm_loss.weight"):
            state[outer.get(name) or rename(name)] = tensor.flatten() if name in outer else tensor
    return {name: tensor.float() for name, tensor in state.items()}


FORMAT = Format("xlnet", "xlnet", to_config, from_config, to_tensors, from_tensors)
