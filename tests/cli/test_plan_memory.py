"""`groundup plan memory` as a user has it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.support import Result

Groundup = Callable[..., Result]


def _asked(groundup: Groundup, *arguments: str) -> dict[str, Any]:
    finished = groundup("plan", "memory", *arguments, "--json")
    assert finished.returncode == 0, finished.stderr
    answer: dict[str, Any] = json.loads(finished.stdout)
    return answer


def test_the_breakdown_adds_up_and_the_table_of_states_is_the_published_one(groundup: Groundup) -> None:
    answer = _asked(groundup, "--params", "70B", "--gpus", "64", "--tp", "8", "--zero", "1")
    assert answer["devices"] == 64
    parts = ("weights", "gradients", "optimizer", "activations", "logits", "other")
    assert sum(answer[f"{part}_bytes"] for part in parts) == pytest.approx(answer["peak_bytes"])
    peaks = {row["moment"]: row["total_bytes"] for row in answer["moments"]}
    assert answer["peak_bytes"] == max(peaks.values()) == peaks[answer["peak_moment"]]
    states = {row["recipe"]: [row[f"bytes_{size}"] / 1e9 for size in ("1B", "7B", "70B", "405B")]
              for row in answer["states"]}  # fmt: skip
    assert states["fp32"] == states["bf16"] == [16, 112, 1120, 6480]
    assert states["bf16-fp32-grads"] == [20, 140, 1400, 8100]


def test_each_note_names_a_change_and_taking_them_all_makes_it_fit(groundup: Groundup) -> None:
    """What the notes say is done: their options are given, and the peak is the one that they promise."""
    model = ("--shape", "llama2-70b", "--gpus", "64", "--micro-batch", "4", "--accumulation", "4")
    notes = _asked(groundup, *model)["notes"]
    assert notes[0].startswith("it does not fit")
    changes = [note.removeprefix("then ").split(": ") for note in notes[1:]]
    assert changes[0][0] == "--micro-batch 1 --accumulation 16"
    assert changes[-1][1].endswith("fits")
    options = [word for change, _ in changes for word in change.replace("(", "").replace(")", "").split()]
    fitted = _asked(groundup, *model, *options)
    assert fitted["free_bytes"] >= 0
    assert f"{fitted['peak_bytes'] / 1e9:,.1f} GB" in changes[-1][1]
    assert fitted["notes"][0].startswith("it fits")


def test_what_never_fits_says_so(groundup: Groundup) -> None:
    notes = _asked(groundup, "--shape", "llama3-405b", "--hardware", "v100", "--seq", "1048576")["notes"]
    assert "fits" not in notes[-2]
    assert "smaller model" in notes[-1]


def test_inference_counts_weights_and_the_cache(groundup: Groundup) -> None:
    answer = _asked(groundup, "--shape", "llama2-7b", "--inference", "--micro-batch", "8", "--seq", "4096")
    assert answer["weights_bytes"] == 13_476_831_232
    assert answer["cache_bytes"] == 8 * 2 * 2**30
    fitting = _asked(
        groundup, "--shape", "llama2-7b", "--inference", "--micro-batch", str(answer["largest_batch"])
    )
    assert 0 <= fitting["free_bytes"] < answer["cache_bytes"] / 8 + 1e6


def test_the_terminal_and_the_page_show_it(groundup: Groundup, tmp_path: Path) -> None:
    finished = groundup(
        "plan", "memory", "--params", "7B", "--gpus", "8", "--pp", "2", "--html", str(tmp_path / "answer.html")
    )
    assert finished.returncode == 0, finished.stderr
    for words in ("activations", "optimizer", "forward", "stage", "bf16-main-grads"):
        assert words in finished.stdout
    assert "Memory of each stage" in (tmp_path / "answer.html").read_text("utf-8")


def test_figures_explain_themselves(groundup: Groundup) -> None:
    finished = groundup("plan", "memory", "--params", "7B", "--explain", "activations_bytes")
    assert finished.returncode == 0, finished.stderr
    assert "arXiv:2205.05198" in finished.stdout + finished.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--params", "7B", "--gpus", "60", "--tp", "8"], "their product may be 1, 2, 3, 4, 5, 6, 10, 12"),
        (["--params", "7B", "--gpus", "64", "--tp", "8", "--dp", "4"], "leave --dp open or give --dp 8"),
        (["--params", "7B", "--hardware", "h100x8", "--gpus", "16"], "give one of them"),
        (["--params", "7B", "--recipe", "bf61"], "did you mean 'bf16'"),
        (["--params", "7B", "--hardware", "h1000"], "unknown hardware 'h1000'"),
        (["--shape", "llama2-7b", "--tp", "5"], "tensor=5 does not divide"),
        (["--shape", "llama2-7b", "--pp", "64"], "64 pipeline stages are more than the model's 32 layers"),
        (["--shape", "llama2-7b", "--virtual-stages", "2"], "does not go with the schedule 1f1b"),
        (["--params", "7B", "--inference", "--pp", "2"], "--inference divides a model by --tp alone"),
    ],
)
def test_bad_questions_are_answered_in_one_line(groundup: Groundup, arguments: list[str], message: str) -> None:
    finished = groundup("plan", "memory", *arguments)
    assert finished.returncode == 2
    assert message in finished.stderr
    assert finished.stderr.count("\n") == 1
