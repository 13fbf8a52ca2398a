"""BERT as Hugging Face's folders have it. Nothing here needs torch.

`BertForPreTraining` has all that our family has. `BertForMaskedLM` has no pooler and no head for next sentences:
they come as zeros, pooled features are then zero, and both answers equally likely. A bare `BertModel` has no head
that predicts tokens, and is refused. Attention's weights are never dropped here, only what blocks add.
"""

from collections.abc import Mapping
from typing import Any

from groundup.errors import UserError
from groundup.interop.format import Format, require
from groundup.interop.names import renamer
from groundup.shape import Shape

_HEAD, _NEXT_SENTENCE = "cls.predictions", ("bert.pooler.", "cls.seq_relationship.")
# Our name -> theirs; {i} is the layer.
_NAMES = {
    "embedding": "bert.embeddings.word_embeddings",
    "positions": "bert.embeddings.position_embeddings",
    "segments": "bert.embeddings.token_type_embeddings",
    "embedding_norm": "bert.embeddings.LayerNorm",
    "blocks.{i}.attention.query": "bert.encoder.layer.{i}.attention.self.query",
    "blocks.{i}.attention.key": "bert.encoder.layer.{i}.attention.self.key",
    "blocks.{i}.attention.value": "bert.encoder.layer.{i}.attention.self.value",
    "blocks.{i}.attention.output": "bert.encoder.layer.{i}.attention.output.dense",
    "blocks.{i}.attention_norm": "bert.encoder.layer.{i}.attention.output.LayerNorm",
    "blocks.{i}.feedforward.up": "bert.encoder.layer.{i}.intermediate.dense",
    "blocks.{i}.feedforward.down": "bert.encoder.layer.{i}.output.dense",
    "blocks.{i}.feedforward_norm": "bert.encoder.layer.{i}.output.LayerNorm",
    "head": _HEAD,
    "head.transform.dense": f"{_HEAD}.transform.dense",
    "head.transform.norm": f"{_HEAD}.transform.LayerNorm",
    "pooler": "bert.pooler.dense",
    "next_sentence": "cls.seq_relationship",
}
# What a file may hold of tensors that are another tensor, or no weights.
_REPEATED = (f"{_HEAD}.decoder.", "bert.embeddings.position_ids")
_REQUIRED = {
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "type_vocab_size": 2,
    "tie_word_embeddings": True,
    "is_decoder": False,
    "add_cross_attention": False,
}


def to_config(shape: Shape, special: Mapping[str, int]) -> dict[str, Any]:
    """The contents of `config.json`."""
    paired = bool(shape.options.get("next_sentence", False))
    return _REQUIRED | {
        "architectures": ["BertForPreTraining" if paired else "BertForMaskedLM"],
        "model_type": "bert",
        # Our own: a folder of others that does not say may have the pooler, whatever its architecture.
        "next_sentence": paired,
        "vocab_size": shape.vocabulary_size,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "intermediate_size": shape.feedforward_width,
        "max_position_embeddings": shape.context,
        "layer_norm_eps": shape.norm_epsilon,
        "hidden_dropout_prob": shape.dropout,
        "attention_probs_dropout_prob": 0.0,
        "pad_token_id": special.get("<|pad|>"),
        "bos_token_id": None,
        "eos_token_id": None,
        "dtype": "float32",
    }


def from_config(config: dict[str, Any]) -> Shape:
    """The shape that a `config.json` describes; UserError for a variant that we do not compute."""
    for key, known in _REQUIRED.items():
        require(config, key, [known], known)
    width, heads = config["hidden_size"], config["num_attention_heads"]
    return Shape(
        family="bert",
        num_layers=config["num_hidden_layers"],
        width=width,
        num_heads=heads,
        num_kv_heads=heads,
        head_width=width // heads,
        feedforward_width=config["intermediate_size"],
        vocabulary_size=config["vocab_size"],
        context=config["max_position_embeddings"],
        norm_epsilon=config.get("layer_norm_eps", 1e-12),
        dropout=config.get("hidden_dropout_prob", 0.1),
        options={"next_sentence": True} if config.get("next_sentence", True) else {},
    )


def to_tensors(shape: Shape, state: dict[str, Any]) -> dict[str, Any]:
    """Our state dict under Hugging Face's names."""
    del shape
    rename = renamer(_NAMES)
    return {rename(name): tensor.contiguous() for name, tensor in state.items()}


def from_tensors(shape: Shape, tensors: dict[str, Any]) -> dict[str, Any]:
    """Hugging Face's tensors under our names, in float32; UserError where there is no head."""
    given = {_current(name): tensor for name, tensor in tensors.items() if not name.startswith(_REPEATED)}
    if not any(name.startswith(_HEAD) for name in given):
        raise UserError(
            "the folder holds BERT's body without the head that predicts tokens; "
            "save it from transformers as BertForMaskedLM or BertForPreTraining"
        )
    if shape.options.get("next_sentence", False):
        given = _untrained(shape, given["bert.embeddings.word_embeddings.weight"]) | given
    else:
        given = {name: tensor for name, tensor in given.items() if not name.startswith(_NEXT_SENTENCE)}
    rename = renamer({theirs: ours for ours, theirs in _NAMES.items()})
    return {rename(name): tensor.float() for name, tensor in given.items()}


def _current(name: str) -> str:
    """Files converted from the first BERT have TensorFlow's names of a norm's parameters."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _untrained(shape: Shape, like: Any) -> dict[str, Any]:
    """Pooler and head for next sentences of a model that never had them."""
    width = shape.width
    sizes = {
        "bert.pooler.dense.weight": (width, width),
        "bert.pooler.dense.bias": (width,),
        "cls.seq_relationship.weight": (2, width),
        "cls.seq_relationship.bias": (2,),
    }
    return {name: like.new_zeros(size) for name, size in sizes.items()}


FORMAT = Format(
    model_type="bert",
    family="bert",
    to_config=to_config,
    from_config=from_config,
    to_tensors=to_tensors,
    from_tensors=from_tensors,
)
