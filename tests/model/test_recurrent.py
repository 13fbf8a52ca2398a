from collections.abc import Callable

import pytest
import torch
from torch import nn

from groundup.model.recurrent import GRU, LSTM, Bidirectional, ProjectedLSTM, reversed_rows

LENGTHS = torch.tensor([9, 5, 1])
KEEP = torch.arange(9) < LENGTHS[:, None]


def _filled(module: nn.Module, seed: int = 0) -> nn.Module:
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(torch.randn(weight.shape, generator=random, dtype=weight.dtype) * 0.5)
    return module


def _inputs(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(3, 9, 6, generator=torch.Generator().manual_seed(1), dtype=dtype)


def test_a_projected_lstm_is_that_of_torch_where_nothing_is_clipped() -> None:
    """In float64: outputs, last state, gradients of the input and of every parameter."""
    theirs = _filled(nn.LSTM(6, 10, batch_first=True, proj_size=4)).double()
    mine = ProjectedLSTM(6, 10, 4, clip=1e9).double()
    mine.load_state_dict(theirs.state_dict())
    found = []
    for layer in (theirs, mine):
        x = _inputs(torch.float64).requires_grad_()
        state = tuple(torch.full((1, 3, width), 0.3, dtype=torch.float64) for width in (4, 10))
        out, (last, cell) = layer(x, state)
        (out.square().sum() + last.sum() + cell.sin().sum()).backward()
        found.append([out, last, cell, x.grad, *(weight.grad for weight in layer.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-12)


def test_cells_and_outputs_are_clipped_after_each_token() -> None:
    """Token by token: torch's layer on one token, clipped before the next is read. Both bounds are met."""
    clip = 0.2
    mine = _filled(ProjectedLSTM(6, 10, 4, clip).double())
    theirs = nn.LSTM(6, 10, batch_first=True, proj_size=4).double()
    theirs.load_state_dict(mine.state_dict())
    state = (torch.zeros(1, 3, 4).double(), torch.zeros(1, 3, 10).double())
    out, (last, cell) = mine(_inputs(torch.float64))
    for place, token in enumerate(_inputs(torch.float64).split(1, 1)):
        _, (_, cells) = theirs(token, state)
        cells = cells.clamp(-clip, clip)
        gates = (
            token[:, 0] @ theirs.weight_ih_l0.T
            + theirs.bias_ih_l0
            + state[0][0] @ theirs.weight_hh_l0.T
            + theirs.bias_hh_l0
        )
        projected = (gates[:, 30:].sigmoid() * cells[0].tanh()) @ theirs.weight_hr_l0.T
        state = (projected.clamp(-clip, clip)[None], cells)
        torch.testing.assert_close(out[:, place], state[0][0], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close((last, cell), state, rtol=1e-10, atol=1e-12)
    assert (out.abs() == clip).any() and (cell.abs() == clip).any()


@pytest.mark.parametrize(("mine", "theirs"), [(LSTM, nn.LSTM), (GRU, nn.GRU)])
def test_layers_are_those_of_torch(mine: type[LSTM], theirs: type[nn.LSTM]) -> None:
    """Two layers, in one go and in two; under autocast too, since states are not to be rounded."""
    other = _filled(theirs(6, 8, 2, batch_first=True))
    layers = mine(6, 8, 2)
    layers.load_state_dict(other.state_dict())
    x = _inputs()
    expected, _ = other(x)
    torch.testing.assert_close(layers(x)[0], expected)
    first, state = layers(x[:, :4])
    torch.testing.assert_close(torch.cat([first, layers(x[:, 4:], state)[0]], 1), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layers(x)[0], layers(x)[0].float())
        torch.testing.assert_close(layers(x)[0], expected)


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_two_directions_are_those_of_torch(kind: type[LSTM]) -> None:
    """Torch's bidirectional layer on packed sequences, which stop at each row's end."""
    mine = _filled(Bidirectional(lambda: kind(6, 8)))
    theirs = (nn.LSTM if kind is LSTM else nn.GRU)(6, 8, batch_first=True, bidirectional=True)
    theirs.load_state_dict(
        {name.removeprefix("ahead."): value for name, value in mine.state_dict().items() if "ahead" in name}
        | {f"{name[5:]}_reverse": value for name, value in mine.state_dict().items() if "back" in name}
    )
    x = _inputs()
    packed = nn.utils.rnn.pack_padded_sequence(x, LENGTHS, batch_first=True)
    expected, _ = nn.utils.rnn.pad_packed_sequence(theirs(packed)[0], batch_first=True)
    torch.testing.assert_close(mine(x, KEEP)[KEEP], expected[KEEP])
    torch.testing.assert_close(mine(x), theirs(x)[0])


def test_rows_are_reversed_up_to_their_padding() -> None:
    x = torch.arange(27.0).view(3, 9, 1)
    turned = reversed_rows(x, KEEP)
    assert turned[1, :, 0].tolist() == [13, 12, 11, 10, 9, 14, 15, 16, 17]
    assert torch.equal(turned[2], x[2]) and torch.equal(turned[0], x[0].flip(0))
    assert torch.equal(reversed_rows(turned, KEEP), x)
    assert torch.equal(reversed_rows(x), x.flip(1))


@pytest.mark.parametrize(
    "make", [lambda: LSTM(300, 200, 2), lambda: GRU(300, 200, 2), lambda: ProjectedLSTM(300, 200, 50, 3.0)]
)
def test_a_start_keeps_scale_and_forgets_little(make: Callable[[], nn.RNNBase]) -> None:
    """A standard deviation of 1/sqrt(fan in); forget gates of LSTMs have a bias of one, nothing else has any."""
    layers = make()
    values = layers.initial_values(torch.Generator().manual_seed(0))
    assert values.keys() == dict(layers.named_parameters()).keys()
    for name, value in values.items():
        assert value.shape == getattr(layers, name).shape
        if name.startswith("weight"):
            assert value.std().item() * value.shape[1] ** 0.5 == pytest.approx(1, abs=0.03)
        elif name.startswith("bias_ih") and isinstance(layers, LSTM):
            assert value.tolist() == [0.0] * 200 + [1.0] * 200 + [0.0] * 400
        else:
            assert not value.any()
