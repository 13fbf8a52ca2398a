"""`groundup plan layout` from end to end."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.support import Result

Cli = Callable[..., Result]
_ASKED = [
    "plan",
    "layout",
    "--params",
    "70B",
    "--hardware",
    "h100x512",
    "--global-batch",
    "4Mtok",
    "--seq",
    "4096",
]


def test_layouts_are_ranked_and_agree_with_themselves(groundup: Cli) -> None:
    result = groundup(*_ASKED, "--top", "4", "--json")
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    rows = answer["layouts"]
    speeds = [row["tokens_per_second"] for row in rows]
    assert len(rows) == 4
    assert speeds == sorted(speeds, reverse=True)
    assert speeds[0] == answer["tokens_per_second"]
    assert answer["batch_tokens"] == 1024 * 4096
    assert answer["data"] * answer["tensor"] * answer["context_parallel"] * answer["pipeline"] == 512
    assert answer["data"] * answer["micro_batch"] * answer["accumulation"] == 1024
    assert answer["tokens_per_second"] == pytest.approx(answer["batch_tokens"] / answer["step_seconds"])
    cost = answer["usd_per_hour"] / 3600 * 1e9 / answer["tokens_per_second"]
    assert answer["usd_per_billion_tokens"] == pytest.approx(cost)
    assert any("1,024 sequences" in note for note in answer["notes"])
    assert any("next best" in note for note in answer["notes"])


def test_a_figure_shows_where_it_comes_from(groundup: Cli) -> None:
    result = groundup(*_ASKED, "--explain", "step_seconds", "--fix", "pipeline=4")
    assert result.returncode == 0, result.stderr
    for part in ("compute", "bubble", "tensor", "nanotron"):
        assert part in result.stdout


def test_what_no_run_stands_behind_is_said(groundup: Cli) -> None:
    asked = ["plan", "layout", "--params", "7B", "--global-batch", "1Mtok", "--json", "--hardware"]
    known = json.loads(groundup(*asked, "h100x64", "--fix", "zero=1").stdout)["notes"]
    new = json.loads(groundup(*asked, "a100x64", "--fix", "zero=3", "--fix", "recompute=full").stdout)["notes"]
    assert not [note for note in known if "by formulas alone" in note]
    assert [note for note in new if "A100" in note and "ZeRO-3" in note and "recomputation" in note]


def test_the_page_has_the_chart(groundup: Cli, tmp_path: Path) -> None:
    assert groundup(*_ASKED, "--html", "page.html").returncode == 0
    assert "Where the time of a step goes" in (tmp_path / "page.html").read_text("utf-8")


def test_a_launch_file_alone_goes_to_standard_output(groundup: Cli) -> None:
    result = groundup(*_ASKED, "--fix", "tensor=8", "--emit", "slurm", "--train", "mine.toml")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("#!/usr/bin/env bash\n#SBATCH")
    assert "--set parallel.data=" in result.stdout
    assert "parallel.tensor=8" in result.stdout
    assert "groundup train mine.toml" in result.stdout
    subprocess.run(["bash", "-n"], input=result.stdout, text=True, check=True)


def test_a_launch_file_can_go_into_a_file_or_into_json(groundup: Cli, tmp_path: Path) -> None:
    shown = groundup(*_ASKED, "--emit", "k8s", "--out", "launch.yaml")
    assert shown.returncode == 0, shown.stderr
    assert "launch.yaml" in shown.stdout
    assert "fastest layouts" in shown.stdout
    in_json = json.loads(groundup(*_ASKED, "--emit", "k8s", "--json").stdout)
    assert in_json["launch_file"] == (tmp_path / "launch.yaml").read_text("utf-8")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--params", "70B", "--hardware", "h100x8", "--global-batch", "1024"], ["h100x8", "GiB", "more devices"]),
        (["--params", "7B", "--hardware", "h10x8", "--global-batch", "1024"], ["h10x8", "did you mean"]),
        (["--params", "7B", "--hardware", "h100x8", "--global-batch", "soon"], ["--global-batch", "4Mtok"]),
        (
            ["--params", "7B", "--hardware", "h100x64", "--global-batch", "7", "--fix", "data=64"],
            ["data=64", "1, 7"],
        ),
        (
            ["--params", "7B", "--hardware", "h100x8", "--global-batch", "8", "--fix", "tensor=3"],
            ["tensor=3", "8"],
        ),
        (["--params", "7B", "--hardware", "h100x8", "--global-batch", "8", "--recipe", "bf17"], ["bf17", "bf16"]),
        (["--params", "7B", "--hardware", "h100x8", "--global-batch", "8", "--emit", "sk"], ["'sk'", "sky"]),
        (["--params", "7B", "--hardware", "h100x8", "--global-batch", "8", "--out", "x"], ["--out", "--emit"]),
        (["--hardware", "h100x8", "--global-batch", "8"], ["--params"]),
    ],
)
def test_bad_input_is_one_line(groundup: Cli, tmp_path: Path, options: list[str], parts: list[str]) -> None:
    result = groundup("plan", "layout", *options)
    assert result.returncode == 2, result.stdout
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    for part in parts:
        assert part in result.stderr
    assert not list(tmp_path.iterdir())


def test_it_answers_without_torch() -> None:
    code = (
        "import sys; from groundup.cli.main import main; code = main(sys.argv[1:]); "
        "print(code, [name for name in ('torch', 'scipy') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code, *_ASKED], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "0 []"
