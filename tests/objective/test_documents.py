"""Documents packed into one window: attention does not leave them."""

from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise

import numpy as np
import pytest
import torch

from groundup.model.decoder import Decoder
from groundup.model.registry import build
from groundup.objective import Setting
from groundup.objective.causal import CAUSAL, causal
from groundup.shape import Shape

END, CONTEXT = 0, 24
LENGTHS = (7, 1, 9, 4, 4)  # of the documents in a window of 25; the first is the rest of one
PACKED = causal(Setting(border=END))


def _model(family: str = "qwen3", *, seed: int = 1) -> Decoder:
    """Away from the start, where what attention gathers is not added yet."""
    shape = Shape(
        family=family,
        num_layers=2,
        width=32,
        num_heads=4,
        num_kv_heads=4 if family == "gpt2" else 2,
        head_width=8,
        feedforward_width=48,
        vocabulary_size=32,
        context=CONTEXT,
    )
    model = build(shape, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.2)
    return model


def _documents(seed: int) -> list[np.ndarray]:
    """Each but the first begins with the end of the one before, as inputs are cut."""
    random = np.random.default_rng(seed)
    found = [random.integers(1, 32, length) for length in LENGTHS]
    for document in found[1:]:
        document[0] = END
    return found


def _windows(count: int = 2) -> np.ndarray:
    return np.stack([np.concatenate(_documents(seed)) for seed in range(count)])


def _autocast(dtype: torch.dtype) -> AbstractContextManager[object]:
    return nullcontext() if dtype == torch.float32 else torch.autocast("cpu", dtype=dtype)


def test_documents_are_numbered_from_their_ends() -> None:
    batch = PACKED.collate(np.array([[5, 6, END, 7, END, END, 8], [END, 1, 2, 3, 4, 5, END]]))
    assert batch.documents_BT is not None
    assert batch.documents_BT.tolist() == [[0, 0, 1, 1, 2, 3], [1, 1, 1, 1, 1, 1]]
    assert batch.documents_BT.dtype == torch.int64
    plain = CAUSAL.collate(_windows())
    assert plain.documents_BT is None
    assert torch.equal(PACKED.collate(_windows()).inputs_BT, plain.inputs_BT)
    assert torch.equal(PACKED.collate(_windows()).targets_BT, plain.targets_BT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])  # the fused kernel, and the formula as written
@pytest.mark.parametrize("family", ["qwen3", "gpt2"])
def test_no_gradient_crosses_a_border(family: str, dtype: torch.dtype) -> None:
    """Of the loss at each position: exactly zero at all tokens of other documents and at those behind it."""
    model, batch = _model(family), PACKED.collate(_windows(1))
    assert batch.documents_BT is not None
    embedded: list[torch.Tensor] = []
    model.embedding.register_forward_hook(lambda module, inputs, output: embedded.append(output))
    with _autocast(dtype):
        logits = model(batch.inputs_BT, documents_BT=batch.documents_BT)[0].float()
    losses = torch.nn.functional.cross_entropy(logits, batch.targets_BT[0], reduction="none")
    documents = batch.documents_BT[0]
    for position in range(CONTEXT):
        (grad,) = torch.autograd.grad(losses[position], embedded[0], retain_graph=True)
        reached = grad[0].abs().amax(dim=1) > 0
        own = (documents == documents[position]) & (torch.arange(CONTEXT) <= position)
        assert torch.equal(reached, own), position


def test_it_equals_reading_the_documents_one_by_one() -> None:
    """With rotary positions: loss and gradients of a window are the sums over its documents."""
    windows, model = _windows(1), _model()
    packed = PACKED.loss(model, PACKED.collate(windows)).mean
    gradients = dict(zip(_names(model), torch.autograd.grad(packed, model.parameters()), strict=True))
    borders = [0, *np.cumsum(LENGTHS)]
    one_by_one = torch.zeros(())
    for first, last in pairwise(borders):
        alone = windows[:, first : last + 1]  # with the token that is predicted last
        loss = CAUSAL.loss(model, CAUSAL.collate(alone))
        one_by_one = one_by_one + loss.mean * loss.num_targets / CONTEXT
    torch.testing.assert_close(one_by_one, packed, rtol=1e-5, atol=0)
    one_by_one.backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, gradients[name], rtol=1e-3, atol=1e-5, msg=name)


def _names(model: Decoder) -> list[str]:
    return [name for name, _ in model.named_parameters()]


def test_a_stream_is_read_as_before() -> None:
    """Without documents, and with a single one, the loss is that of plain causal attention."""
    model, windows = _model(), np.random.default_rng(0).integers(1, 32, (2, CONTEXT + 1))
    plain, one = CAUSAL.loss(model, CAUSAL.collate(windows)), PACKED.loss(model, PACKED.collate(windows))
    torch.testing.assert_close(plain.mean, one.mean, rtol=1e-6, atol=0)
    crossing = _windows()
    stream, packed = CAUSAL.loss(model, CAUSAL.collate(crossing)), PACKED.loss(model, PACKED.collate(crossing))
    assert abs(stream.mean.item() - packed.mean.item()) > 1e-3


def test_a_model_that_cannot_keep_documents_apart_is_not_asked_to() -> None:
    with pytest.raises(AssertionError, match="keep documents apart"):
        PACKED.loss(torch.nn.Embedding(32, 32), PACKED.collate(_windows()))


def test_documents_move_with_their_batch() -> None:
    moved = PACKED.collate(_windows()).to("meta")
    assert moved.documents_BT is not None
    assert {tensor.device.type for tensor in (moved.inputs_BT, moved.targets_BT, moved.documents_BT)} == {"meta"}
