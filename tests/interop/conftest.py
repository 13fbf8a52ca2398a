"""The same shapes as models of ours and of transformers, with the same random weights."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import transformers
from torch import nn

from groundup.interop.formats import format_of
from groundup.model.decoder import Decoder
from groundup.model.registry import build
from groundup.shape import Shape
from groundup.tokenizer import Tokenizer

# Each is different from the others in what could be mixed up: ties, groups, head widths, theta, epsilon.
_COMMON = {"num_layers": 3, "width": 32, "num_heads": 4, "vocabulary_size": 67, "context": 20}
_GPT2 = _COMMON | {"family": "gpt2", "num_kv_heads": 4, "head_width": 8, "norm_epsilon": 1e-4}
END_OF_TEXT = "<|endoftext|>"
SHAPES = {
    "gpt1": _GPT2 | {"family": "gpt1", "feedforward_width": 128},
    "gpt1-untied": _GPT2 | {"family": "gpt1", "feedforward_width": 128, "tied": False},
    "gpt2": _GPT2 | {"feedforward_width": 128},
    "gpt2-untied": _GPT2 | {"feedforward_width": 72, "tied": False},
    "llama": _COMMON | {"family": "llama", "num_kv_heads": 2, "head_width": 8, "feedforward_width": 80},
    "llama-untied": _COMMON
    | {"family": "llama", "num_kv_heads": 1, "head_width": 8, "feedforward_width": 40, "tied": False}
    | {"rope_theta": 500_000.0, "norm_epsilon": 1e-3},
    "llama-ungrouped": _COMMON | {"family": "llama", "num_kv_heads": 4, "head_width": 6, "feedforward_width": 56},
    "qwen3": _COMMON | {"family": "qwen3", "num_kv_heads": 2, "head_width": 16, "feedforward_width": 96},
    "qwen3-untied": _COMMON
    | {"family": "qwen3", "num_kv_heads": 4, "head_width": 8, "feedforward_width": 64, "tied": False}
    | {"rope_theta": 77.0, "norm_epsilon": 1e-2},
    "qwen3_moe": _COMMON
    | {"family": "qwen3_moe", "num_kv_heads": 2, "head_width": 16, "feedforward_width": 48}
    | {"num_experts": 5, "experts_per_token": 2, "router_aux_loss_coef": 0.3},
    "qwen3_moe-untied": _COMMON
    | {"family": "qwen3_moe", "num_kv_heads": 4, "head_width": 8, "feedforward_width": 60, "tied": False}
    | {"num_experts": 11, "experts_per_token": 3, "norm_topk_prob": False},  # two digits in an expert's name
}
_CLASSES: dict[str, tuple[Any, Any]] = {
    "gpt1": (transformers.OpenAIGPTConfig, transformers.OpenAIGPTLMHeadModel),
    "gpt2": (transformers.GPT2Config, transformers.GPT2LMHeadModel),
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
    "qwen3_moe": (transformers.Qwen3MoeConfig, transformers.Qwen3MoeForCausalLM),
}


class Pair(NamedTuple):
    """One model twice: ours, and that of transformers with the plain ("eager") attention."""

    shape: Shape
    ours: Decoder
    theirs: transformers.PreTrainedModel


@pytest.fixture(params=sorted(SHAPES))
def shape(request: pytest.FixtureRequest) -> Shape:
    return Shape(**SHAPES[request.param])


@pytest.fixture(scope="session")
def make_theirs() -> Callable[[Shape], transformers.PreTrainedModel]:
    """The model of transformers, built from numbers and with random weights everywhere."""

    def make(shape: Shape) -> transformers.PreTrainedModel:
        config_class, model_class = _CLASSES[shape.family]
        config = config_class.from_dict(
            format_of(shape.family).to_config(shape, {END_OF_TEXT: 0}) | {"attn_implementation": "eager"}
        )
        model = model_class(config).eval()
        randomise(model)
        return model

    return make


@pytest.fixture
def pair(shape: Shape, make_theirs: Callable[[Shape], transformers.PreTrainedModel]) -> Pair:
    theirs = make_theirs(shape)
    ours = build(shape).eval()
    ours.load_state_dict(format_of(shape.family).from_tensors(shape, as_stored(theirs.state_dict())))
    return Pair(shape, ours, theirs)


@pytest.fixture
def ids() -> torch.Tensor:
    """(2, 20) token ids: the whole context."""
    return torch.randint(0, 67, (2, 20), generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["to be or not to be"], vocabulary_size=257)


def as_stored(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of a model of transformers as its folders have them: in memory it stacks the experts' matrices."""
    stored: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        prefix, stacked, part = name.partition(".experts.")
        if not stacked:
            stored[name] = tensor
            continue
        for expert, matrix in enumerate(tensor):
            parts = part.replace("gate_up_proj", "gate_proj up_proj").split()
            for one, piece in zip(parts, matrix.chunk(len(parts)), strict=True):
                stored[f"{prefix}.experts.{expert}.{one}.weight"] = piece
    return stored


@torch.no_grad()
def randomise(model: nn.Module) -> None:
    """No parameter stays 0 or 1, where a wrong use would not show."""
    generator = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        spread = 0.2 if parameter.dim() == 1 else 0.15
        parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=spread)
