"""Experts on several devices: the same as on one, wherever their tokens come from (gloo, float32)."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from groundup.model.experts import Experts
from groundup.model.registry import build
from groundup.objective import CAUSAL
from groundup.parallel.divided import whole
from groundup.parallel.expert import DividedExperts, average_expert_gradients
from groundup.parallel.grid import Grid
from groundup.parallel.many import ManyDevices
from groundup.plan.cluster.layout import Layout
from groundup.recipe import ParallelRecipe, TrainRecipe
from groundup.shape import Shape
from groundup.train.checkpoint_writer import CheckpointWriter
from groundup.train.checkpoints import TrainState, restore, snapshot, write
from groundup.train.optimizers import build_optimizer, set_learning_rate
from groundup.train.stored_tensors import read
from tests.parallel.processes import run
from tests.parallel.test_many_devices import check, layout
from tests.parallel.training import Case

# Where two experts of a token are about as likely, rounding chooses. It does not in these 20 steps of this shape.
_ALONE = {"router_aux_loss_coef": 0.0}
_WEIGHED = {"router_aux_loss_coef": 0.1}


def case(sizes: Layout, **others: object) -> Case:
    """Without a loss for balance, which depends on the sequences that are together in a micro-batch."""
    return Case(sizes, **({"family": "qwen3_moe", "shape": _ALONE} | others))  # type: ignore[arg-type]


def test_experts_on_two() -> None:
    check(
        2,
        {
            "divided": case(layout(data=2, expert=2)),
            "zero 1": case(layout(data=2, expert=2, zero=1), parallel={"bucket_mb": 0.2}),
            "zero 2, offloaded": case(layout(data=2, expert=2, zero=2), parallel={"offload": True}),
            "zero 3, documents": case(layout(data=2, expert=2, zero=3), tied=False, documents=True),
            "selective": case(layout(data=2, expert=2, zero=3), train={"recompute": "selective"}),
            "pipeline": case(layout(pipeline=2)),
        },
    )


def test_experts_on_four() -> None:
    check(
        4,
        {
            "copies": case(layout(data=4, expert=2)),
            "zero 3": case(layout(data=4, expert=2, zero=3)),
            "hybrid": case(layout(data=4, expert=2, zero=1, replicate=2)),
            "context, zero 3": case(layout(data=2, expert=2, context=2, zero=3)),
            "pipeline, zero 2": case(layout(data=2, expert=2, pipeline=2, zero=2)),
        },
    )


@pytest.mark.parametrize("expert", [1, 2])
def test_balance_is_asked_for_over_all_processes(expert: int) -> None:
    """One micro-batch of all sequences has the same load wherever it is computed."""
    check(2, {"balance": case(Layout(data=2, expert=expert, micro_batch=4), shape=_WEIGHED)})


# --- the way of the tokens ---


_ROWS = torch.tensor([[[5, 0, 0, 0], [0, 0, 0, 3]], [[0, 0, 7, 0], [0, 0, 2, 0]], [[0, 0, 0, 0], [1, 2, 3, 4]]])
_SHAPE = Shape(
    family="qwen3_moe", num_layers=1, width=6, num_heads=1, num_kv_heads=1, head_width=6, feedforward_width=8,
    vocabulary_size=8, context=8, num_experts=4, experts_per_token=2,
)  # fmt: skip


def _experts() -> Experts:
    torch.manual_seed(0)
    experts = Experts(_SHAPE)
    for weight in experts.parameters():
        torch.nn.init.normal_(weight)
    return experts


def _rows(number: int, rank: int) -> Tensor:
    """(M, D) with gradient."""
    generator = torch.Generator().manual_seed(2 * number + rank)
    return torch.randn(int(_ROWS[number, rank].sum()), _SHAPE.width, generator=generator).requires_grad_()


def _gradient(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None
    return tensor.grad


def _pass_through(rank: int) -> list[dict[str, Tensor]]:
    """Of each pass what came out, and the gradients of what went in and of this process's experts."""
    grid = Grid(Layout(data=2, expert=2), "cpu")
    passes = []
    for number, tokens in enumerate(_ROWS):
        experts = DividedExperts(_experts(), grid.mesh["expert"])
        x = _rows(number, rank)
        y = experts(x, tokens[rank])
        y.square().sum().backward()
        average_expert_gradients(experts)
        weights = {name: whole(_gradient(weight)) for name, weight in experts.named_parameters()}
        passes.append({"y": y.detach(), "x": _gradient(x), **weights})
    return passes


def test_tokens_come_back_from_wherever_they_are_sent() -> None:
    """Though all go to one process, or one process has none; experts get the mean of all processes' gradients."""
    by_rank = run(2, _pass_through)
    for number, tokens in enumerate(_ROWS):
        experts = _experts()
        for rank, passes in enumerate(by_rank):
            x = _rows(number, rank)
            y = experts(x, tokens[rank])
            (y.square().sum() / 2).backward()
            torch.testing.assert_close(passes[number]["y"], y)
            torch.testing.assert_close(passes[number]["x"], 2 * _gradient(x))
        for name, weight in experts.named_parameters():
            torch.testing.assert_close(by_rank[0][number][name], _gradient(weight))


# --- checkpoints ---


def _trained(model: nn.Module) -> Optimizer:
    """Muon for the experts, AdamW for the rest."""
    return build_optimizer(model, TrainRecipe(optimizer="muon"))


def _read_and_write(_rank: int, source: Path, folders: dict[Layout, Path]) -> None:
    """Each layout reads what the one before it wrote."""
    for sizes, folder in folders.items():
        parallel = ParallelRecipe(zero=sizes.zero)
        many = ManyDevices(_SHAPE, CAUSAL, Grid(sizes, "cpu"), parallel, seed=99, computing=nullcontext)
        optimizer = _trained(many.model)
        state = restore(source, many.model, optimizer)
        with CheckpointWriter(folder, keep=1) as writer:
            writer.start(snapshot(many.model, optimizer, state))
        source = folder / source.name


def test_checkpoints_go_from_one_process_to_divided_experts_and_back(tmp_path: Path) -> None:
    model = build(_SHAPE, 1)
    optimizer = _trained(model)
    model(torch.arange(8)[None]).square().sum().backward()
    set_learning_rate(optimizer, 1e-2)
    optimizer.step()
    write(tmp_path / "one", snapshot(model, optimizer, TrainState(1)), keep=1)
    source = tmp_path / "one" / "step-1"
    layouts = [Layout(data=4, expert=2), Layout(data=4, expert=2, zero=3), Layout(data=4, expert=4, zero=1)]
    folders = {sizes: tmp_path / str(number) for number, sizes in enumerate(layouts)}
    run(4, _read_and_write, source, folders)
    for folder in folders.values():
        for part in ("model", "optimizer"):
            found, expected = read(folder / source.name, part), read(source, part)
            assert found.keys() == expected.keys()
            assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
    again = build(_SHAPE, 2)
    assert restore(folders[layouts[-1]] / source.name, again, _trained(again)) == TrainState(1)
    assert all(map(torch.equal, again.parameters(), model.parameters()))
