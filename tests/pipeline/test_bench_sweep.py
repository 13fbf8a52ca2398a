import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.errors import UserError
from groundup.pipeline.bench_subject import Subject, subject_on
from groundup.pipeline.bench_sweep import AXES, Point, Sweep, find_unfinished, grid, own_point, parse_axes
from groundup.plan.hardware import Hardware
from groundup.recipe import Recipe, load

from .support import tiny_trial

HARDWARE = Hardware("a processor", "cpu", 1, 8 << 30, 1e11, 2e11, 1e10)


@pytest.fixture
def recipe() -> Recipe:
    return load("tiny")


@pytest.fixture
def subject(recipe: Recipe) -> Subject:
    return subject_on(recipe, HARDWARE)


def differences(point: Point, own: Point) -> int:
    return sum([point[:2] != own[:2], *(one != other for one, other in zip(point[2:], own[2:], strict=True))])


@given(st.integers(1, 300), st.sampled_from(["none", "full"]), st.sampled_from(["auto", "on", "off"]))
def test_the_usual_grid(batch_size: int, recompute: str, compile_: str) -> None:
    base = tiny_trial(batch_size=batch_size, recompute=recompute, compile=compile_)
    points = grid(base, {})
    own = own_point(base)
    assert points[0] == own
    assert len(set(points)) == len(points)
    distances = [differences(point, own) for point in points]
    assert distances == sorted(distances)
    cuts = {point[:2] for point in points}
    assert {(batch_size, 1), (2 * batch_size, 1)} <= cuts
    assert all(one * other == batch_size for one, other in cuts if other > 1)
    assert len(points) == len(cuts) * 3 * 3 * 2


def test_a_point_is_the_trial_that_it_says() -> None:
    trial = Point(4, 3, "full", "bf16-weights", "on").trial(tiny_trial())
    assert (trial.batch_size, trial.micro_batch, trial.accumulation) == (12, 4, 3)
    assert (trial.settings.recompute, trial.precision, trial.settings.compile) == ("full", "bf16-weights", "on")
    assert type(trial).from_json(json.loads(json.dumps(trial.as_json()))) == trial


def test_given_axes_are_kept_to() -> None:
    axes = parse_axes(["micro_batch=2,3", "accumulation=fixed,5", "precision=fp32", "recompute=none,full"])
    points = grid(tiny_trial(batch_size=8), axes | {"compile": ("off",)})
    assert {point[:2] for point in points} == {(2, 4), (2, 5), (3, 5)}  # 3 does not divide 8
    assert {point[2:] for point in points} == {("none", "fp32", "off"), ("full", "fp32", "off")}


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        ("precision", ["axis=value"]),
        ("precision=", ["axis=value"]),
        ("presicion=fp32", ["presicion", "precision"]),
        ("precision=fp8", ["fp8", "bf16-weights"]),
        ("micro_batch=0", ["'0'", "whole number"]),
        ("micro_batch=fixed", ["'fixed'", "whole number"]),
        ("micro_batch=4,,8", ["''", "whole number"]),
        ("accumulation=some", ["'some'", "fixed"]),
        ("compile=auto", ["auto", "off, on"]),
    ],
)
def test_axes_that_are_none(written: str, parts: list[str]) -> None:
    with pytest.raises(UserError) as error:
        parse_axes([written])
    assert all(part in str(error.value) for part in parts)


def test_nothing_to_measure() -> None:
    with pytest.raises(UserError, match="divides the batch of 8"):
        grid(tiny_trial(batch_size=8), {"micro_batch": (3,), "accumulation": ("fixed",)})


def write_rows(sweep: Sweep, points: list[Point], *, torn: str = "") -> None:
    rows = [json.dumps(point._asdict() | {"error": "not measured in this test"}) + "\n" for point in points]
    (sweep.folder / "sweep.jsonl").write_text("".join(rows) + torn)


def test_what_is_missing(subject: Subject, recipe: Recipe, tmp_path: Path) -> None:
    axes: dict[str, Any] = parse_axes(["compile=off", "precision=fp32"])
    sweep = Sweep.create(tmp_path, subject, axes)
    write_rows(sweep, sweep.points[:4], torn='{"micro_batch": 8, "accu')
    assert sweep.missing() == sweep.points[4:]
    again = Sweep.open(tmp_path, recipe, axes)
    assert again is not None
    assert (again.subject, again.points) == (subject, sweep.points)
    wider = Sweep.open(tmp_path, recipe, parse_axes(["compile=off", "precision=fp32,bf16"]))
    assert wider is not None
    assert len(wider.missing()) == 2 * len(sweep.points) - 4
    other = recipe.model_copy(update={"seed": 7})
    assert Sweep.open(tmp_path, other, axes) is None


def test_the_newest_unfinished_sweep_of_a_recipe_is_found(
    subject: Subject, recipe: Recipe, tmp_path: Path
) -> None:
    axes = parse_axes(["compile=off", "precision=fp32", "recompute=none"])
    assert find_unfinished(recipe, axes, tmp_path) is None
    sweeps = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        sweeps.append(Sweep.create(tmp_path / name, subject, axes))
        write_rows(sweeps[-1], sweeps[-1].points[:1])
    found = find_unfinished(recipe, axes, tmp_path)
    assert found is not None
    assert found.folder.name == "two"
    write_rows(sweeps[1], list(sweeps[1].points))
    found = find_unfinished(recipe, axes, tmp_path)
    assert found is not None
    assert found.folder.name == "one"
    assert find_unfinished(recipe.model_copy(update={"seed": 7}), axes, tmp_path) is None


def test_every_axis_is_a_field_of_a_point() -> None:
    assert Point._fields == AXES
