import pytest
import torch

from groundup.model.registry import build
from groundup.objective import OBJECTIVES
from groundup.plan.memory import STATE_BYTES_PER_PARAMETER, activation_bytes, train_bytes
from groundup.plan.parameters import total
from groundup.recipe import TrainRecipe
from groundup.shape import Shape
from groundup.train.optimizers import build_optimizer, set_learning_rate
from groundup.train.precision import autocast


def _shape(family: str, **changes: int) -> Shape:
    numbers = {
        "num_layers": 3,
        "width": 64,
        "num_heads": 4,
        "num_kv_heads": 4 if family == "gpt2" else 2,
        "head_width": 16,
        "feedforward_width": 192,
        "vocabulary_size": 512,
        "context": 64,
    }
    return Shape(family=family, **numbers | changes)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
def test_states_are_weights_gradients_and_moments(family: str) -> None:
    """Counted on a real model after a real step, AdamW's step counters (4 bytes a tensor) left out."""
    model = build(_shape(family))
    optimizer = build_optimizer(model, TrainRecipe(lr=1e-3))
    set_learning_rate(optimizer, 1e-3)
    model(torch.zeros(1, 8, dtype=torch.int64)).sum().backward()
    optimizer.step()
    held = [*model.parameters(), *(parameter.grad for parameter in model.parameters())]
    held += [value for state in optimizer.state.values() for value in state.values() if value.dim()]
    assert sum(tensor.nbytes for tensor in held) == STATE_BYTES_PER_PARAMETER * total(model.shape)


def _kept_bytes(shape: Shape, precision: str, batch_size: int) -> int:
    """Bytes of the tensors that autograd keeps for the backward pass, the weights themselves left out."""
    model, objective = build(shape), OBJECTIVES["causal"]
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    windows = torch.zeros(batch_size, shape.context + 1, dtype=torch.int64).numpy()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), autocast("cpu", precision):
        loss = objective.loss(model, objective.collate(windows))
    assert loss.mean.requires_grad
    return sum(tensor.untyped_storage().nbytes() for pointer, tensor in kept.items() if pointer not in own)


@pytest.mark.parametrize(
    ("family", "precision"),
    [
        *((family, "fp32") for family in ("gpt2", "llama", "qwen3")),
        ("gpt2", "bf16"),
        ("llama", "bf16"),
        ("qwen3", "bf16"),
    ],
)
def test_a_layers_activations_cover_what_autograd_keeps(family: str, precision: str) -> None:
    """Bytes a token of one layer more, and of four more sequences, so that all else cancels out."""
    kept, counted = [], []
    for num_layers in (2, 3):
        shape = _shape(family, num_layers=num_layers, width=128, head_width=32, feedforward_width=352)
        more = _kept_bytes(shape, precision, 8) - _kept_bytes(shape, precision, 4)
        kept.append(more / (4 * shape.context))
        counted.append(activation_bytes(shape, precision))
    assert 0 < kept[1] - kept[0] <= counted[1] - counted[0]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_memory_grows_by_the_sequence(precision: str) -> None:
    shape = _shape("qwen3")
    one, two, five = (train_bytes(shape, micro_batch, precision) for micro_batch in (1, 2, 5))
    assert two - one == shape.context * activation_bytes(shape, precision)
    assert five - one == 4 * (two - one)
    assert one > STATE_BYTES_PER_PARAMETER * total(shape)


def test_bfloat16_keeps_less() -> None:
    shape = _shape("qwen3")
    assert activation_bytes(shape, "bf16") < activation_bytes(shape, "fp32")
