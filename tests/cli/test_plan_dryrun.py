"""`groundup plan dryrun` as a user has it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.support import Result

Groundup = Callable[..., Result]


def _set(*fields: str) -> list[str]:
    return [word for field in fields for word in ("--set", field)]


def _asked(groundup: Groundup, *arguments: str) -> dict[str, Any]:
    finished = groundup("plan", "dryrun", "default", *arguments, "--json")
    assert finished.returncode == 0, finished.stderr
    answer: dict[str, Any] = json.loads(finished.stdout)
    return answer


def _rows(answer: dict[str, Any], moment: str) -> dict[str, dict[str, Any]]:
    return {row["category"]: row for row in answer["memory"] if row["moment"] == moment}


def _check_sent(answer: dict[str, Any]) -> None:
    """What theory knows is within 2 % of what was counted, row by row; what it leaves out is little."""
    *rows, together = answer["sent"]
    assert all(abs(row["difference"]) < 0.02 for row in rows if row["theory_bytes"])
    assert together["purpose"] == "all"
    assert abs(together["difference"]) < 0.02
    assert (
        together["counted_bytes"]
        == answer["sent_bytes"]
        == pytest.approx(sum(row["counted_bytes"] for row in rows))
    )


def test_seven_billion_parameters_on_512_devices(groundup: Groundup, tmp_path: Path) -> None:
    """Tensor x pipeline x ZeRO: states within 5 % of the formulas, what is sent within 2 % of theory."""
    page = tmp_path / "dryrun.html"
    answer = _asked(
        groundup, "--hardware", "h100x512", "--params", "7B", "--html", str(page),
        *_set("parallel.tensor=8", "parallel.pipeline=4", "parallel.zero=1", "train.batch_size=64",
              "train.optimizer=adamw"),
    )  # fmt: skip
    assert (answer["data"], answer["tensor"], answer["pipeline"], answer["accumulation"]) == (16, 8, 4, 4)
    kept = [*_rows(answer, "between steps").values(), *_rows(answer, "before the update").values()]
    assert [row["category"] for row in kept] == ["weights", "optimizer", "gradients"]
    assert all(abs(row["difference"]) < 0.05 for row in kept)
    assert {row["axis"] for row in answer["sent"]} == {"shard", "tensor", "pipeline", None}
    _check_sent(answer)
    peak = _rows(answer, "at the peak")
    assert peak["total"]["counted_bytes"] == answer["peak_bytes"]
    assert sum(row["counted_bytes"] for name, row in peak.items() if name != "total") == answer["peak_bytes"]
    assert "Sent in a step" in page.read_text("utf-8")


def test_a_recipe_that_says_nothing_gets_the_planners_layout(groundup: Groundup) -> None:
    model = ("--hardware", "h100x8", "--shape", "layers=4,width=512,heads=8,vocab=4096,context=512")
    answer = _asked(groundup, *model, *_set("train.batch_size=64"))
    best = groundup("plan", "layout", *model, "--global-batch", "64", "--recipe", "autocast", "--json")
    name = f"dp{answer['data']} mb{answer['micro_batch']}x{answer['accumulation']}"
    assert json.loads(best.stdout)["layouts"][0]["layout"] == name
    assert any("planner's best layout" in note for note in answer["notes"])


def test_the_last_process_of_a_pipeline_has_other_layers(groundup: Groundup) -> None:
    model = ("--hardware", "h100x8", "--shape", "layers=5,width=256,heads=4,vocab=2048,context=128")
    ways = _set("parallel.pipeline=2", "parallel.zero=3")
    first, last = (_asked(groundup, *model, *ways, "--rank", rank) for rank in ("0", "7"))
    assert (first["stage"], last["stage"]) == (0, 1)
    assert first["layers"] + last["layers"] == 5


@pytest.mark.parametrize("rank", ["0", "15"])
def test_what_muon_gathers_is_in_theory(groundup: Groundup, rank: str) -> None:
    """Also of the last stage, in bfloat16, computed again."""
    model = ("--hardware", "h100x16", "--shape", "layers=4,width=512,heads=8,vocab=2048,context=256")
    ways = _set("parallel.pipeline=2", "parallel.tensor=2", "parallel.zero=1", "train.optimizer=muon",
                "train.recompute=full", "train.micro_batch=4")  # fmt: skip
    answer = _asked(groundup, *model, *ways, "--rank", rank)
    _check_sent(answer)
    gathered = {row["axis"]: row["purpose"] for row in answer["sent"] if row["kind"] == "all-gather"}
    assert gathered["shard"] == "weights, Muon"
    assert gathered["tensor"] == "hidden states, Muon"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--params", "7B", "--rank", "8"), "--rank 8: there are 8 processes; use 0 to 7"),
        ((), "give --params 7B"),
        (("--params", "7B", "--set", "parallel.tensor=3"), "data=-1 x tensor=3 x context=1 x pipeline=1"),
        (("--params", "7B", "--set", "model.family=qwen3_moe"), "use a family without experts"),
        (("--params", "7B", "--set", "parallel.pipeline=64"), "pipeline=64 does not divide 8 devices"),
    ],
)
def test_one_line_for_what_cannot_be(groundup: Groundup, arguments: tuple[str, ...], error: str) -> None:
    finished = groundup("plan", "dryrun", "default", "--hardware", "h100x8", *arguments)
    assert finished.returncode != 0
    assert error in finished.stderr
    assert "Traceback" not in finished.stderr
