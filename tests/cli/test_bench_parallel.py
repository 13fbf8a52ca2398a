"""`groundup bench parallel`, end to end: real processes, counted against theory."""

import json
from pathlib import Path

import pytest

from groundup.cli.main import main
from tests.cli.support import Result

LAYOUTS = ["data=2", "data=2,zero=3", "tensor=2", "pipeline=2,schedule=1f1b"]
SMALL = [
    "tiny", "--set", "model.num_kv_heads=2", "--set", "train.optimizer=adamw", "--set", "train.threads=1",
]  # fmt: skip


def test_layouts_beside_theory(groundup: object, tmp_path: Path) -> None:
    asked = [part for layout in LAYOUTS for part in ("--layout", layout)]
    command = ["bench", "parallel", *SMALL, *asked, "--seconds", "0", "--out", "measured", "--json"]
    finished: Result = groundup(*command)  # type: ignore[operator]
    assert finished.returncode == 0, finished.stderr
    outcome = json.loads(finished.stdout)
    rows = {row["layout"]: row for row in outcome["layouts"]}
    assert list(rows) == LAYOUTS
    for name, row in rows.items():
        assert "error" not in row, f"{name}: {row.get('error')}"
        assert [process["rank"] for process in row["processes"]] == [0, 1]
        # What the parts of a vocabulary tell each other is a greater share of so narrow a model.
        assert abs(row["sent_error"]) < 0.02, f"{name}: bytes sent are {row['sent_error']:+.1%} off"
        for process in row["processes"]:
            for what in ("weights", "gradients", "optimizer"):
                ratio = process["kept"][what] / process["kept_theory"][what]
                assert abs(ratio - 1) < 0.05, f"{name}: {what} are {ratio:.3f} of theory"
            step = process["recorded"]
            parts = step["compute_seconds"] + step["exposed_seconds"] + step["idle_seconds"]
            assert parts == pytest.approx(step["step_seconds"])
            assert step["compute_seconds"] > 0
            assert {phase for phase, *_ in step["phases"]} == {"forward", "backward", "update"}
        assert row["speedup"] == pytest.approx(row["tokens_per_second"] / outcome["one_process_tokens_per_second"])
    assert rows["pipeline=2,schedule=1f1b"]["bubble_theory"] == pytest.approx(1 / 5)
    assert 0 < rows["pipeline=2,schedule=1f1b"]["bubble_share"] < 1
    kinds = {found["kind"] for found in rows["data=2,zero=3"]["processes"][0]["recorded"]["communications"]}
    assert {"all-gather", "reduce-scatter"} <= kinds
    assert json.loads((tmp_path / "measured" / "parallel.json").read_text()) == outcome
    page = (tmp_path / "measured" / "parallel.html").read_text("utf-8")
    assert all(f'data-layout="{layout}"' in page for layout in LAYOUTS)


BAD = {
    "an unknown recipe": (["tinny"], ["tinny", "tiny"]),
    "one process": (["tiny", "--nproc", "1"], ["--nproc"]),
    "an unknown field": (["tiny", "--layout", "zeros=1"], ["parallel.zeros", "zero"]),
    "no field": (["tiny", "--layout", "fast"], ["--layout fast", "data=2,zero=3"]),
    "another number of processes": (["tiny", "--layout", "data=3"], ["--nproc 3"]),
    "heads that do not divide": (["tiny", "--layout", "tensor=2"], ["tensor=2", "key/value heads"]),
    "a file as folder": (["tiny", "--out", "file.txt"], ["file.txt", "is a file"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file.txt").write_text("text")
    monkeypatch.chdir(tmp_path)
    arguments, expected = BAD[name]
    assert main(["bench", "parallel", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    for part in expected:
        assert part in said
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_help_of_both(capsys: pytest.CaptureFixture[str]) -> None:
    main(["bench", "--help"])
    both = capsys.readouterr().out
    assert "bench [OPTIONS] [RECIPE] | COMMAND" in both
    assert "--sweep" in both
    assert "parallel  " in both
    main(["bench", "parallel", "--help"])
    assert "bench parallel [OPTIONS] [RECIPE]\n" in capsys.readouterr().out
