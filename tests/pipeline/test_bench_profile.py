import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from groundup.pipeline.bench_process import Trial
from groundup.pipeline.bench_profile import KINDS, Place, kind_of, record
from groundup.pipeline.bench_step import make_step

from .support import SHAPE, tiny_trial


@pytest.fixture(autouse=True, scope="module")
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def timeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("timeline") / "step.json"


@pytest.fixture(scope="module")
def summary(timeline: Path) -> dict[str, Any]:
    return record(tiny_trial(), 0.0, timeline)


def counted_flops(trial: Trial) -> float:
    """Those of one step, by PyTorch's own counter."""
    step = make_step(trial)
    step()
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def by_name(rows: list[dict[str, Any]], name: str) -> dict[str, dict[str, Any]]:
    return {row[name]: row for row in rows}


def test_the_rows_add_up_to_the_step(summary: dict[str, Any]) -> None:
    assert tuple(row["kind"] for row in summary["kinds"]) == KINDS
    assert sum(row["share"] for row in summary["kinds"]) == pytest.approx(1)
    assert sum(row["seconds"] for row in summary["kinds"]) == pytest.approx(summary["step_seconds"])
    overhead = by_name(summary["kinds"], "kind")["framework overhead"]["seconds"]
    of_operators = sum(row["seconds"] for row in summary["modules"])
    assert of_operators + overhead == pytest.approx(summary["step_seconds"])


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_no_product_is_lost_or_counted_twice(recompute: str, tmp_path: Path) -> None:
    trial = tiny_trial(recompute=recompute, micro_batch=4)
    summary = record(trial, 0.0, tmp_path / "step.json")
    assert sum(row["flops"] for row in summary["kinds"]) == counted_flops(trial)
    assert sum(row["flops"] for row in summary["modules"]) == counted_flops(trial)


def test_the_backward_pass_is_put_down_to_the_modules(summary: dict[str, Any]) -> None:
    modules = by_name(summary["modules"], "module")
    tokens = 8 * SHAPE.context
    for name, weights in {
        "attention.query": SHAPE.width * SHAPE.num_heads * SHAPE.head_width,
        "attention.key": SHAPE.width * SHAPE.num_kv_heads * SHAPE.head_width,
        "feedforward.up": SHAPE.width * SHAPE.feedforward_width,
        "feedforward.down": SHAPE.feedforward_width * SHAPE.width,
    }.items():
        # Forward, and backward twice as much, in each of the layers.
        assert modules[f"blocks.*.{name}"]["flops"] == 3 * 2 * tokens * weights * SHAPE.num_layers
        assert modules[f"blocks.*.{name}"]["backward_seconds"] > 0
    assert modules["loss"]["flops"] == 3 * 2 * tokens * SHAPE.width * SHAPE.vocabulary_size
    assert modules["update"]["forward_seconds"] == modules["update"]["backward_seconds"] == 0
    assert modules.get("elsewhere", {"flops": 0})["flops"] == 0


def test_kinds_of_the_step(summary: dict[str, Any]) -> None:
    kinds = by_name(summary["kinds"], "kind")
    # Seven linear maps a layer, each with its two gradients.
    assert kinds["matrix products"]["calls"] == 3 * 7 * SHAPE.num_layers
    assert all(kinds[kind]["seconds"] > 0 for kind in KINDS)
    assert kinds["norms and pointwise"]["flops_per_second"] is None
    products = kinds["matrix products"]
    assert products["flops_per_second"] == pytest.approx(products["flops"] / products["seconds"])


def test_the_timeline_can_be_opened(summary: dict[str, Any], timeline: Path) -> None:
    events = json.loads(timeline.read_text())["traceEvents"]
    names = [event.get("name") for event in events]
    assert names.count("groundup.step") == summary["steps"]
    assert "aten::mm" in names


@pytest.mark.parametrize(
    ("operator", "place", "kind"),
    [
        ("mm", Place("forward", "blocks.0.feedforward.up", "Linear"), "matrix products"),
        ("_linear_pointwise", Place("backward", "blocks.0.feedforward.up", "Linear"), "matrix products"),
        ("mm", Place("forward", "loss"), "loss"),
        ("copy_", Place("backward", "loss"), "loss"),
        ("mul", Place("forward", "blocks.0.attention", "Attention"), "attention"),
        ("mm", Place("forward", "blocks.0.attention.query", "Linear"), "matrix products"),
        ("bmm", Place("backward", "blocks.* (compiled)"), "attention"),
        ("graph_0_cpp_fused__softmax_add_3", Place("forward", "blocks.* (compiled)"), "attention"),
        ("graph_0_cpp_fused_mul_silu_7", Place("forward", "blocks.* (compiled)"), "norms and pointwise"),
        ("_to_copy", Place("forward", "blocks.0.feedforward.up", "Linear"), "casts and copies"),
        ("rsqrt", Place("backward", "norm", "RMSNorm"), "norms and pointwise"),
        ("mm", Place("update"), "optimizer"),
    ],
)
def test_the_kind_of_an_operator(operator: str, place: Place, kind: str) -> None:
    assert kind_of(operator, place) == kind
