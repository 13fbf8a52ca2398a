"""T5's folder, `t5`: versions 1.0 and 1.1. Nothing here needs torch.

Version 1.1 does not tie the unembedding, and does not scale what becomes logits. transformers 5 writes
`tie_word_embeddings: true` for both, and says by `scale_decoder_outputs` which one it is.
"""

from collections.abc import Mapping
from typing import Any

from groundup.errors import UserError
from groundup.interop.format import Format
from groundup.shape import Shape

_BUCKETS, _MAX_DISTANCE, _CONTEXT = 32, 128, 512
_GATED = {"relu": False, "gated-gelu": True}
# Copies that some files have of `shared`, and a table that no version reads.
_COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
_UNREAD = "EncDecAttention.relative_attention_bias.weight"


def to_config(shape: Shape, special: Mapping[str, int]) -> dict[str, Any]:
    """The contents of `config.json`."""
    options = shape.options
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "is_encoder_decoder": True,
        "vocab_size": shape.vocabulary_size,
        "tie_word_embeddings": shape.tied,
        "pad_token_id": special["<|pad|>"],
        "decoder_start_token_id": special["<|pad|>"],
        "eos_token_id": special["<|endoftext|>"],
        "dtype": "float32",
        "num_layers": shape.num_layers,
        "num_decoder_layers": options.get("decoder_layers") or shape.num_layers,
        "d_model": shape.width,
        "num_heads": shape.num_heads,
        "d_kv": shape.head_width,
        "d_ff": shape.feedforward_width,
        "n_positions": shape.context,
        "layer_norm_epsilon": shape.norm_epsilon,
        "feed_forward_proj": "gated-gelu" if options.get("gated") else "relu",
        "relative_attention_num_buckets": options.get("num_buckets", _BUCKETS),
        "relative_attention_max_distance": options.get("max_distance", _MAX_DISTANCE),
        "dropout_rate": shape.dropout,
    }


def from_config(config: dict[str, Any]) -> Shape:
    """The shape; UserError for a feed-forward block that is in neither version."""
    feedforward = config.get("feed_forward_proj", "relu")
    if feedforward not in _GATED:
        raise UserError(
            f"config.json has feed_forward_proj={feedforward!r}, which groundup does not know; "
            f"it reads {', '.join(map(repr, _GATED))}"
        )
    num_layers = config["num_layers"]
    options = {
        "gated": (_GATED[feedforward], False),
        "decoder_layers": (config.get("num_decoder_layers") or num_layers, num_layers),
        "num_buckets": (config["relative_attention_num_buckets"], _BUCKETS),
        "max_distance": (config.get("relative_attention_max_distance", _MAX_DISTANCE), _MAX_DISTANCE),
    }
    return Shape(
        family="t5",
        num_layers=num_layers,
        width=config["d_model"],
        num_heads=config["num_heads"],
        num_kv_heads=config["num_heads"],
        head_width=config["d_kv"],
        feedforward_width=config["d_ff"],
        vocabulary_size=config["vocab_size"],
        context=config.get("n_positions", _CONTEXT),
        tied=config.get("scale_decoder_outputs", config.get("tie_word_embeddings", True)),
        norm_epsilon=config["layer_norm_epsilon"],
        dropout=config.get("dropout_rate", 0.0),
        options={name: value for name, (value, default) in options.items() if value != default},
    )


def to_tensors(shape: Shape, state: dict[str, Any]) -> dict[str, Any]:
    """Our state dict under Hugging Face's names."""
    names = _names(shape)
    return {names[name]: tensor.contiguous() for name, tensor in state.items()}


def from_tensors(shape: Shape, tensors: dict[str, Any]) -> dict[str, Any]:
    """Hugging Face's tensors under our names, in float32."""
    tensors = {
        name: tensor.float()
        for name, tensor in tensors.items()
        if name not in _COPIES and not name.endswith(_UNREAD)
    }
    if shape.tied:
        tensors.pop("lm_head.weight", None)
    elif "lm_head.weight" not in tensors and "shared.weight" in tensors:
        # Version 1.1 as transformers 5 makes it anew: with the unembedding tied.
        tensors["lm_head.weight"] = tensors["shared.weight"].clone()
    names = {theirs: ours for ours, theirs in _names(shape).items()}
    return {names.get(name, name): tensor for name, tensor in tensors.items()}


def _names(shape: Shape) -> dict[str, str]:
    """Our name of each tensor -> theirs."""
    feedforward = {"gate": "wi_0", "up": "wi_1"} if shape.options.get("gated") else {"up": "wi"}
    decoder_layers = shape.options.get("decoder_layers") or shape.num_layers
    names = {"embedding": "shared", "unembedding": "lm_head"}
    for half, num_layers, num_parts in (("encoder", shape.num_layers, 2), ("decoder", decoder_layers, 3)):
        names[f"{half}_norm"] = f"{half}.final_layer_norm"
        names[f"{half}_bias.embedding"] = f"{half}.block.0.layer.0.SelfAttention.relative_attention_bias"
        for layer in range(num_layers):
            ours, theirs = f"{half}.{layer}", f"{half}.block.{layer}.layer"
            names |= _part_names(f"{ours}.attention", f"{theirs}.0", "SelfAttention", _ATTENTION)
            if num_parts == 3:
                names |= _part_names(f"{ours}.cross_attention", f"{theirs}.1", "EncDecAttention", _ATTENTION)
            last, parts = f"{theirs}.{num_parts - 1}", feedforward | {"down": "wo"}
            names |= _part_names(f"{ours}.feedforward", last, "DenseReluDense", parts)
    return {f"{ours}.weight": f"{theirs}.weight" for ours, theirs in names.items()}


_ATTENTION = {"query": "q", "key": "k", "value": "v", "output": "o"}


def _part_names(ours: str, theirs: str, module: str, parts: Mapping[str, str]) -> dict[str, str]:
    """The names of one part of a block and of its norm."""
    names = {f"{ours}.{part}": f"{theirs}.{module}.{name}" for part, name in parts.items()}
    return names | {f"{ours}_norm": f"{theirs}.layer_norm"}


FORMAT = Format("t5", "t5", to_config, from_config, to_tensors, from_tensors)
