"""Our decoders as Hugging Face's `config.json`, there and back.

A family appears here because `transformers`, llama.cpp and vLLM know its architecture. Nothing here needs torch.
"""

from typing import Any

from groundup.errors import UserError
from groundup.interop.format import require
from groundup.shape import Shape

ARCHITECTURES = {
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
}


def to_config(shape: Shape, end_of_text: int) -> dict[str, Any]:
    """The contents of `config.json` and the ids of special tokens."""
    common = {
        "architectures": [ARCHITECTURES[shape.family]],
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
    return (
        common
        | _experts_config(shape)
        | {
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
    )


def _experts_config(shape: Shape) -> dict[str, Any]:
    """What the `config.json` of a mixture of experts says besides; every layer has experts."""
    if shape.num_experts is None:
        return {}
    return {
        "num_experts": shape.num_experts,
        "num_experts_per_tok": shape.experts_per_token,
        "moe_intermediate_size": shape.expert_width,
        "norm_topk_prob": shape.norm_topk_prob,
        "router_aux_loss_coef": shape.router_aux_loss_coef,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }


def from_config(config: dict[str, Any]) -> Shape:
    """The shape that a `config.json` describes; UserError for what no family of ours computes."""
    shape = shape_in(config)
    if shape.family == "gpt2":
        require(config, "activation_function", ("gelu_new",), "gelu_new")
        require(config, "scale_attn_weights", (True,), True)
        require(config, "scale_attn_by_inverse_layer_idx", (False,), False)
        return shape
    require(config, "hidden_act", ("silu",), "silu")
    rope = _rope(config)
    require(rope, "rope_type" if "rope_type" in rope else "type", ("default",), "default")
    require(config, "use_sliding_window", (False,), False)
    return shape


def shape_in(config: dict[str, Any]) -> Shape:
    """The shape alone, which decides the parameters; what is computed with them is not looked at.

    UserError for an architecture that no family of ours has.
    """
    family = config.get("model_type")
    if family not in ARCHITECTURES:
        raise UserError(
            f"config.json has model_type={family!r}; groundup reads {', '.join(sorted(ARCHITECTURES))}"
        )
    if family == "gpt2":
        width, heads = config["n_embd"], config["n_head"]
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
    require(config, "attention_bias", (False,), False)
    require(config, "mlp_bias", (False,), False)
    width, heads = config["hidden_size"], config["num_attention_heads"]
    feedforward = (
        _experts_in(config) if family == "qwen3_moe" else {"feedforward_width": config["intermediate_size"]}
    )
    return Shape(
        family=family,
        num_layers=config["num_hidden_layers"],
        width=width,
        num_heads=heads,
        num_kv_heads=config.get("num_key_value_heads") or heads,
        head_width=config.get("head_dim") or width // heads,
        vocabulary_size=config["vocab_size"],
        context=config["max_position_embeddings"],
        tied=config.get("tie_word_embeddings", False),
        rope_theta=_rope(config).get("rope_theta") or config.get("rope_theta", 10_000.0),
        norm_epsilon=config["rms_norm_eps"],
        **feedforward,
    )


def _experts_in(config: dict[str, Any]) -> dict[str, Any]:
    """The fields of `Shape` of a mixture of experts, absent ones as `transformers` takes them."""
    require(config, "mlp_only_layers", ([], None), [])
    require(config, "decoder_sparse_step", (1,), 1)
    per_token = config["num_experts_per_tok"]
    return {
        "feedforward_width": per_token * config["moe_intermediate_size"],
        "num_experts": config["num_experts"] if "num_experts" in config else config["num_local_experts"],
        "experts_per_token": per_token,
        "norm_topk_prob": config.get("norm_topk_prob", False),
        "router_aux_loss_coef": config.get("router_aux_loss_coef", 0.001),
    }


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """Where transformers 5 keeps the settings of rotary positions, and where transformers 4 did."""
    return config.get("rope_parameters") or config.get("rope_scaling") or {}
