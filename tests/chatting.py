"""Small models that answer: one that says anything, and one that recites a text."""

from pathlib import Path

import torch

from groundup.model import folder as model_folder
from groundup.model.decoder import Decoder
from groundup.model.registry import build
from groundup.shape import Shape
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.templates import with_template

BASE = Tokenizer.train(["a"], vocabulary_size=257)
TOKENIZER = with_template(BASE)


def _shape(family: str, context: int, width: int) -> Shape:
    return Shape(
        family=family,
        num_layers=2,
        width=width,
        num_heads=2,
        num_kv_heads=2,
        head_width=width // 2,
        feedforward_width=2 * width,
        vocabulary_size=TOKENIZER.vocabulary_size,
        context=context,
        tied=False,
    )


def random_model(context: int = 128) -> Decoder:
    """A model that prefers no token for long."""
    model, generator = build(_shape("llama", context, 32), seed=1), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return model.eval()


def reciting_model(text: str, times: int = 1) -> Decoder:
    """A model that writes the token at its position in `text` so many times over, whatever was before.

    The text may hold special tokens. The blocks are the identity, tokens are embedded as nothing and positions as
    unit vectors, each of which the unembedding takes to its token.
    """
    ids = TOKENIZER.encode(text, allowed_special="all")
    width = 2 * len(ids)
    model = build(_shape("gpt2", times * len(ids), width), seed=1)
    with torch.no_grad():
        model.embedding.weight.zero_()
        model.positions.weight.copy_(torch.eye(len(ids), width).repeat(times, 1))
        model.unembedding.weight.zero_()
        model.unembedding.weight[torch.tensor(ids), torch.arange(len(ids))] = 20.0
    return model.eval()


def save(folder: Path, model: Decoder, tokenizer: Tokenizer = TOKENIZER) -> Path:
    model_folder.save(folder, model, tokenizer, "# card\n", {})
    return folder
