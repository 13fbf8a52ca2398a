from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.errors import UserError
from groundup.pipeline.bench import compiling
from groundup.pipeline.bench_process import measure
from groundup.pipeline.bench_screens import compiling_text
from groundup.pipeline.bench_subject import subject_on
from groundup.plan.flops import train_flops_per_token
from groundup.plan.hardware import Hardware
from groundup.recipe import Recipe, load

from .support import SHAPE, tiny_trial

HARDWARE = Hardware("a processor", "cpu", 1, 8 << 30, 1e11, 2e11, 1e10)
seconds = st.floats(1e-3, 1e3)


def row(compile_: str, step_seconds: float, warmup_seconds: float) -> dict[str, Any]:
    return {
        "compile": compile_,
        "step_seconds": step_seconds,
        "warmup_seconds": warmup_seconds,
        "compiled_from_cache": False,
    }


@given(seconds, seconds, seconds, seconds)
def test_from_when_on_compiling_pays(
    eager: float, compiled: float, first_eager: float, first_compiled: float
) -> None:
    found = compiling([row("off", eager, first_eager), row("on", compiled, first_compiled)])
    assert found is not None
    assert found["speedup"] == pytest.approx(eager / compiled)
    pays = found["pays_after_seconds"]
    assert (pays is None) == (compiled >= eager)
    if pays is not None:
        # At that time both have taken as many steps: eager from the start, compiled after the compiler.
        steps = pays / eager
        assert found["seconds"] + steps * compiled == pytest.approx(pays, rel=1e-6)


def test_compiling_is_judged_only_where_both_were_measured() -> None:
    assert compiling([row("off", 1, 1)]) is None
    assert compiling([row("off", 1, 1), {"compile": "on", "error": "no compiler"}]) is None


def test_what_is_said_of_compiling() -> None:
    said = compiling_text({"seconds": 30.0, "from_cache": False, "speedup": 1.25, "pays_after_seconds": 150.0})
    assert said == (
        "Compiling takes 30 s (with nothing in the cache) and makes steps 25% faster: it pays from 2 min 30 s of "
        "training on."
    )
    never = compiling_text({"seconds": 2.0, "from_cache": True, "speedup": 0.9, "pays_after_seconds": None})
    assert "gains nothing" in never
    assert "with its code in the cache" in never


def test_a_trial_is_measured_in_a_process_of_its_own() -> None:
    trial = tiny_trial(batch_size=6, micro_batch=4, precision="fp32")
    found = measure(trial, 0.1, HARDWARE)
    assert found["steps"] >= 3
    assert 0 < found["step_seconds_least"] <= found["step_seconds"]
    assert found["tokens_per_second"] == pytest.approx(6 * SHAPE.context / found["step_seconds"])
    flops = found["tokens_per_second"] * train_flops_per_token(SHAPE)
    assert found["flops_per_second"] == pytest.approx(flops)
    assert found["utilisation"] == pytest.approx(flops / HARDWARE.flops_fp32)
    # Python with torch holds more than 100 MB; the model is nothing beside it.
    assert 100e6 < found["start_bytes"] < found["peak_bytes"] < 2e9
    assert (trial.micro_batch, trial.accumulation) == (4, 2)


def test_more_is_held_when_more_is_kept_for_the_backward_pass() -> None:
    shape = SHAPE.model_copy(update={"context": 512, "num_layers": 4})
    peaks = [
        measure(tiny_trial(batch_size=8, shape=shape, **cut), 0.0, HARDWARE)["peak_bytes"]
        for cut in ({}, {"micro_batch": 1})
    ]
    # Of the residual stream alone, 7 sequences more in 4 layers with 2 sums each.
    assert peaks[0] - peaks[1] > 7 * 512 * 32 * 4 * 2 * 4


@pytest.mark.parametrize(
    ("trial", "said"),
    [
        (tiny_trial(batch_size=10**12), "out of memory"),
        (tiny_trial(optimizer="no-such"), "no-such"),
    ],
)
def test_a_trial_that_fails_says_why_in_one_line(trial: Any, said: str) -> None:
    found = measure(trial, 0.0, HARDWARE)
    assert found.keys() == {"error"}
    assert said in found["error"]
    assert "\n" not in found["error"]


def test_the_planner_fills_in_what_the_recipe_leaves_open() -> None:
    subject = subject_on(Recipe(budget="10m"), HARDWARE)
    assert set(subject.chosen) >= {"model.width", "train.batch_size", "tokenizer.vocabulary_size"}
    assert subject.trial.batch_size % subject.trial.micro_batch == 0
    assert subject.trial.settings.compile == "auto"
    larger = subject_on(Recipe(budget="20h"), HARDWARE)
    assert larger.trial.shape.width > subject.trial.shape.width


def test_a_recipe_that_leaves_nothing_open_is_measured_as_it_is() -> None:
    recipe = load(
        "tiny", {"train.batch_size": 12, "train.micro_batch": 5, "train.precision": "fp32", "budget": "1s"}
    )
    subject = subject_on(recipe, HARDWARE)
    assert subject.chosen == ()
    assert (subject.trial.batch_size, subject.trial.micro_batch, subject.trial.precision) == (12, 5, "fp32")
    assert subject.trial.shape.width == recipe.model.width == subject.as_json()["shape"]["width"]


def test_a_model_that_does_not_fit_is_refused() -> None:
    recipe = load("tiny", {"train.micro_batch": 8})
    with pytest.raises(UserError, match="memory"):
        subject_on(recipe, Hardware("a processor", "cpu", 1, 1 << 20, 1e11, 2e11, 1e10))
