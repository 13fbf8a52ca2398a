"""The compiled step beside the one as written. Compiling takes some seconds each."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from groundup.errors import UserError
from groundup.model.registry import build
from groundup.objective.causal import CAUSAL
from groundup.parallel.recompute import Recompute, recompute
from groundup.recipe import TrainRecipe
from groundup.shape import Shape
from groundup.train.compile import compile_blocks, eager, why_not_compiled
from groundup.train.step import TrainStep

WINDOWS = np.random.default_rng(0).integers(0, 16, (4, 17))
needs_compiler = pytest.mark.skipif(why_not_compiled("cpu") is not None, reason="no C++ compiler")


def _step(family: str, compile: str, precision: str = "fp32") -> TrainStep:
    heads = {"gpt2": (2, 2), "qwen3": (2, 1)}[family]
    shape = Shape(
        family=family,
        num_layers=2,
        width=32,
        num_heads=heads[0],
        num_kv_heads=heads[1],
        head_width=16,
        feedforward_width=48,
        vocabulary_size=16,
        context=16,
    )
    # Muon rounds directions to bfloat16: in float32 the last bit of a gradient would show. AdamW divides by
    # moments near zero: in bfloat16 that would show.
    optimizer = "adamw" if precision == "fp32" else "muon"
    settings = TrainRecipe(lr=1e-2, compile=compile, optimizer=optimizer)
    return TrainStep(build(shape, 1), CAUSAL, settings, precision=precision, device="cpu")


@needs_compiler
@pytest.mark.parametrize(("family", "precision", "tolerance"), [("qwen3", "fp32", 1e-4), ("gpt2", "bf16", 1e-2)])
def test_the_compiled_step_learns_the_same(family: str, precision: str, tolerance: float) -> None:
    written, compiled = _step(family, "off", precision), _step(family, "on", precision)
    assert compiled.warm_up(WINDOWS) is None
    for _ in range(10):
        expected, made = written(WINDOWS, 1e-2), compiled(WINDOWS, 1e-2)
        assert made.loss == pytest.approx(expected.loss, rel=tolerance)
    assert made.loss < 0.9 * np.log(16)
    compiled.model.eval()
    with torch.no_grad(), eager():  # any length, no compiling
        ids = torch.from_numpy(WINDOWS[:1, :5])
        expected_logits = written.model.eval()(ids)
        torch.testing.assert_close(compiled.model(ids), expected_logits, rtol=5 * tolerance, atol=5 * tolerance)


@needs_compiler
def test_warming_up_changes_nothing() -> None:
    step = _step("qwen3", "on")
    before = [weight.clone() for weight in step.model.parameters()]
    step.warm_up(WINDOWS)
    for weight, earlier in zip(step.model.parameters(), before, strict=True):
        assert torch.equal(weight, earlier) and weight.grad is None


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"train\.compile=on needs a C\+\+ compiler"):
        _step("qwen3", "on")


def test_a_compiler_that_fails_leaves_the_model_as_written(tmp_path: Path) -> None:
    script = (
        "from tests.train.test_compile import _step, WINDOWS\n"
        "step = _step('qwen3', 'on'); assert step.warm_up(WINDOWS); print(step(WINDOWS, 1e-2).loss)"
    )
    environment = os.environ | {"CXX": "false", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=root, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) == pytest.approx(_step("qwen3", "off")(WINDOWS, 1e-2).loss, rel=1e-5)


def test_nothing_is_imported_where_nothing_was_compiled() -> None:
    """torch._dynamo takes more than a second."""
    script = "import sys; from groundup.train.compile import eager; eager(); print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@needs_compiler
@pytest.mark.parametrize("what", ["none", "full"])
def test_blocks_with_experts_compile_whole_and_keep_what_balances_them(what: Recompute) -> None:
    """In bfloat16, whose grouped product needs no sizes: no break, and the router's gradient has its penalty."""
    numbers = {"num_layers": 2, "width": 32, "num_heads": 2, "num_kv_heads": 1, "head_width": 16}
    experts = {"feedforward_width": 64, "num_experts": 4, "experts_per_token": 2, "router_aux_loss_coef": 5.0}
    shape = Shape(family="qwen3_moe", vocabulary_size=50, context=16, **numbers, **experts)
    batch = CAUSAL.collate(np.random.default_rng(0).integers(0, 50, (4, 17)))

    def gradients(compiled: bool) -> list[torch.Tensor]:
        model = build(shape, seed=5).train()
        if compiled:
            torch._dynamo.reset()
            compile_blocks(recompute(model, what), "cpu")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            CAUSAL.loss(model, batch).mean.backward()
        return [block.feedforward.router.weight.grad for block in model.blocks]

    plain = gradients(compiled=False)
    torch._dynamo.utils.counters.clear()
    for mine, theirs in zip(gradients(compiled=True), plain, strict=True):
        assert theirs.any()
        assert (mine - theirs).norm() < 0.05 * theirs.norm()
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0
    assert not torch._dynamo.utils.counters["graph_break"]
