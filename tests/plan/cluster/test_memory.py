"""The memory of a step: against closed forms, real runs, and what must hold whatever the layout."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.errors import UserError
from groundup.plan.cluster.activations import layer_bytes
from groundup.plan.cluster.devices import parse_hardware
from groundup.plan.cluster.layout import Layout
from groundup.plan.cluster.memory import FORMULAS_ALONE, H100_NANOTRON, device_memory, fits
from groundup.plan.cluster.memory_fit import MeasuredMemory, calibrate
from groundup.plan.cluster.states import STATE_RECIPES
from groundup.plan.models import named_shape
from groundup.plan.parameters import total
from groundup.shape import Shape

_NANOTRON = STATE_RECIPES["bf16-main-grads"]


def _named(name: str) -> Shape:
    shape = named_shape(name)
    assert shape is not None
    return shape


def test_on_one_device_it_is_the_sum_of_the_closed_forms() -> None:
    """16 N of states, L s b (16 h + 8 F + 4 a) of gated layers, 4 s b v of logits."""
    shape, layout = _named("llama2-7b"), Layout(micro_batch=2)
    forward = device_memory(shape, layout, STATE_RECIPES["bf16"], constants=FORMULAS_ALONE).stages[0].forward
    tokens, h, f = 2 * 4096, 4096, 11_008
    assert forward.weights + forward.gradients + forward.optimizer == 16 * total(shape)
    assert forward.activations == 32 * tokens * (16 * h + 8 * f + 4 * 32)
    assert forward.logits == 4 * tokens * 32_000
    assert forward.other == 0


def test_the_first_stage_keeps_as_much_as_if_there_were_no_pipeline() -> None:
    """Korthikanti et al. 2022, 4.2.3: p micro-batches of L/p layers; here of layers as they are cut."""
    shape = _named("llama2-70b")
    one = layer_bytes(shape, Layout(tensor=8))
    for pipeline in (2, 4, 8):
        layout = Layout(tensor=8, pipeline=pipeline, accumulation=32)
        first = device_memory(shape, layout, _NANOTRON, constants=FORMULAS_ALONE).stages[0]
        assert first.forward.activations == pytest.approx(pipeline * first.stage.layers * one)
        assert first.forward.activations == pytest.approx(80 * one, rel=0.1)


def test_full_recomputation_keeps_inputs_and_one_layer_at_work() -> None:
    shape, layout = _named("llama2-7b"), Layout(recompute="full")
    stage = device_memory(shape, layout, _NANOTRON, constants=FORMULAS_ALONE).stages[0]
    inputs = 32 * 2 * 4096 * 4096
    assert stage.forward.activations == inputs
    whole_layer = layer_bytes(shape, replace(layout, recompute="none"))
    assert stage.backward.activations == inputs - 2 * 4096 * 4096 + whole_layer


def test_float32_keeps_values_of_twice_the_size() -> None:
    """All but the kernel's 4 bytes a query and head."""
    shape = _named("llama2-7b")
    single, half = (
        device_memory(shape, Layout(), STATE_RECIPES[name], constants=FORMULAS_ALONE).stages[0].forward.activations
        for name in ("fp32", "bf16")
    )
    sums_of_rows = 32 * 4096 * 4 * 32
    assert single - sums_of_rows == 2 * (half - sums_of_rows)


def test_zero_3_has_few_layers_whole() -> None:
    """Weights are divided, and two layers of them gathered; gradients of one."""
    shape, shards = _named("llama2-7b"), 8
    stage = device_memory(
        shape, Layout(data=shards, zero=3), STATE_RECIPES["bf16"], constants=FORMULAS_ALONE
    ).stages[0]
    assert stage.update.total == pytest.approx(16 * total(shape) / shards)
    layer = total(shape) / 32
    assert stage.forward.other == pytest.approx(2 * 2 * layer)
    assert stage.backward.other == pytest.approx(2 * 2 * layer + 2 * layer)


def test_every_virtual_stage_is_on_its_device() -> None:
    """Parts go round the devices: the sum of parameters is that of the model."""
    shape = _named("llama2-70b")
    layout = Layout(tensor=8, pipeline=4, accumulation=16, schedule="interleaved", virtual_stages=5)
    memory = device_memory(shape, layout, _NANOTRON)
    assert len(memory.stages) == 4
    assert sum(one.stage.parameters for one in memory.stages) == total(shape)
    assert sum(one.stage.layers for one in memory.stages) == 80
    plain = device_memory(shape, replace(layout, schedule="1f1b", virtual_stages=1), _NANOTRON)
    assert memory.stages[0].forward.activations > plain.stages[0].forward.activations


_LAYOUTS = st.builds(
    Layout,
    data=st.sampled_from([1, 2, 8]),
    tensor=st.sampled_from([1, 2, 8]),
    context=st.sampled_from([1, 2]),
    pipeline=st.sampled_from([1, 2, 4]),
    zero=st.integers(0, 3),
    micro_batch=st.integers(1, 4),
    accumulation=st.integers(1, 8),
    sequence=st.booleans(),
    schedule=st.sampled_from(["gpipe", "1f1b"]),
    recompute=st.sampled_from(["none", "selective", "full"]),
)


@given(_LAYOUTS)
def test_what_is_meant_to_save_memory_never_costs_any(layout: Layout) -> None:
    shape = _named("llama2-70b")

    def peak(**changes: object) -> float:
        return device_memory(shape, replace(layout, **changes), _NANOTRON).peak

    here = peak()
    assert peak(recompute="full") <= here
    assert peak(micro_batch=1) <= here
    assert peak(zero=1) <= peak(zero=0)
    assert peak(sequence=True, accumulation=1) <= peak(sequence=False, accumulation=1)
    assert peak(schedule="1f1b") <= peak(schedule="gpipe")
    assert device_memory(shape, layout, _NANOTRON, flash=False).peak >= here
    assert peak(context=2 * layout.context) <= here


@given(_LAYOUTS)
def test_the_peak_is_the_greatest_of_all_stages_and_moments(layout: Layout) -> None:
    memory = device_memory(_named("gpt2"), replace(layout, tensor=1), _NANOTRON)
    totals = [moment.total for one in memory.stages for moment in one.moments.values()]
    assert memory.peak == max(totals)
    assert memory.at_peak.moments[memory.at_peak.peak_moment].total == memory.peak
    assert all(part >= 0 for one in memory.stages for moment in one.moments.values() for part in moment)


def test_a_layout_that_does_not_divide_is_refused() -> None:
    with pytest.raises(UserError, match="tensor=3 does not divide"):
        device_memory(_named("llama2-7b"), Layout(tensor=3), _NANOTRON)


def test_what_fits() -> None:
    """Llama-2-7B in mixed precision needs more than one device of 80 GB for its states alone; eight share them."""
    shape, recipe, device = _named("llama2-7b"), STATE_RECIPES["bf16"], parse_hardware("h100").device
    assert not fits(device_memory(shape, Layout(), recipe), device)
    assert fits(device_memory(shape, Layout(data=8, zero=3), recipe), device)


def test_constants_are_found_again_in_what_they_predict() -> None:
    """Peaks planned with other constants, and a tenth of them spoilt: the fit is of the least absolute errors."""
    true = replace(H100_NANOTRON, activations=1.1, logit_bytes=14.0, gathered=0.5, parameter_bytes=2.0)
    random = np.random.default_rng(1)
    runs = []
    for _ in range(150):
        name = random.choice(["playbook-1b", "playbook-3b"])
        layout = Layout(
            data=int(random.choice([1, 2, 4])),
            tensor=int(random.choice([1, 2, 4, 8])),
            pipeline=int(random.choice([1, 1, 2, 4])),
            zero=int(random.choice([0, 1])),  # type: ignore[arg-type]
            micro_batch=int(random.choice([1, 2, 8])),
            accumulation=int(random.choice([1, 8])),
        )
        peak = device_memory(_named(name), layout, _NANOTRON, constants=true).stages[0].peak
        spoilt = 1.5 if random.random() < 0.1 else 1.0
        runs.append(MeasuredMemory(_named(name), layout, _NANOTRON, spoilt * peak))
    found = calibrate(runs)
    for field in ("activations", "logit_bytes", "gathered", "parameter_bytes", "buffers", "device_bytes"):
        assert getattr(found, field) == pytest.approx(getattr(true, field), rel=0.1), field


def _ended(folder: Path) -> dict[str, list[MeasuredMemory]]:
    runs: dict[str, list[MeasuredMemory]] = {"1B": [], "3B": []}
    with (folder / "ultrascale" / "bench_1b_3b.csv").open(newline="") as lines:
        for row in csv.DictReader(lines):
            shape = _named(f"playbook-{row['model']}")
            if row["mem"] and float(row["pp"]) <= shape.num_layers:
                names = {
                    "dp": "data",
                    "tp": "tensor",
                    "pp": "pipeline",
                    "mbs": "micro_batch",
                    "ga": "accumulation",
                }
                sizes = {field: int(float(row[name])) for name, field in names.items()}
                layout = Layout(**sizes, zero=1 if float(row["zero"]) else 0)  # type: ignore[arg-type]
                runs[row["model"]].append(MeasuredMemory(shape, layout, _NANOTRON, float(row["mem"]) * 2**30))
    return runs


@pytest.mark.parametrize(("fitted", "tested"), [("1B", "3B"), ("3B", "1B")])
def test_real_runs_of_another_size_are_predicted(fitted: str, tested: str, shared_data: Path) -> None:
    """Runs on H100 (Ultra-Scale Playbook): median error at most 10 %, nine of ten within 25 %."""
    runs = _ended(shared_data)
    constants = calibrate(runs[fitted])
    errors = [
        device_memory(run.shape, run.layout, run.recipe, constants=constants).stages[0].peak / run.peak_bytes - 1
        for run in runs[tested]
    ]
    assert len(errors) > 500
    assert np.median(np.abs(errors)) <= 0.10
    assert np.quantile(np.abs(errors), 0.9) <= 0.25


def test_the_constants_kept_are_those_of_the_runs(shared_data: Path) -> None:
    """They were written down from this fit."""
    runs = [run for size in _ended(shared_data).values() for run in size]
    found = calibrate(runs)
    for field in ("activations", "logit_bytes", "parameter_bytes", "gathered", "buffers", "device_bytes"):
        assert getattr(H100_NANOTRON, field) == pytest.approx(getattr(found, field), rel=0.02), field
