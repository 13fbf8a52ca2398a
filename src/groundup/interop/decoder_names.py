"""What Hugging Face calls the modules of our decoders. Nothing here needs torch."""

# The modules of ours that have a row for each token; tied, only the first is there.
TABLES = ("embedding", "unembedding")

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
# A mixture of experts has one file entry for each expert's matrix; {e} is the expert.
_EXPERTS_NAMES = _LLAMA_NAMES | {
    "blocks.{i}.feedforward.router": "model.layers.{i}.mlp.gate",
    "blocks.{i}.feedforward.experts.{e}.gate": "model.layers.{i}.mlp.experts.{e}.gate_proj",
    "blocks.{i}.feedforward.experts.{e}.up": "model.layers.{i}.mlp.experts.{e}.up_proj",
    "blocks.{i}.feedforward.experts.{e}.down": "model.layers.{i}.mlp.experts.{e}.down_proj",
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

# GPT's are GPT-2's but for two; its linear layers are stored as GPT-2's are.
_GPT1_NAMES = _GPT2_NAMES | {"embedding": "transformer.tokens_embed", "positions": "transformer.positions_embed"}
_NAMES = {"gpt1": _GPT1_NAMES, "gpt2": _GPT2_NAMES, "qwen3_moe": _EXPERTS_NAMES}


def names_of(family: str) -> dict[str, str]:
    """Our names of a decoder's modules, and theirs; as `renamer` reads them."""
    return _NAMES.get(family, _LLAMA_NAMES)
