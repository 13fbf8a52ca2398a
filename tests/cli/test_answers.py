"""What every verb of the planner does with its answer: on the terminal, as JSON, explained, as a page."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from groundup.cli.answers import give
from groundup.errors import UserError
from tests.cli.support import Result
from tests.studio import fake_answer

Cli = Callable[..., Result]


@pytest.mark.parametrize("explain", [[], ["usd"], ["all"]])
@pytest.mark.parametrize("page", [False, True])
def test_json_is_alone_on_standard_output(
    explain: list[str], page: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "folder" / "plan.html" if page else None
    assert give(fake_answer.answer(), as_json=True, explain=explain, html=file) == 0
    output = capsys.readouterr()
    assert output.out.count("\n") == 1
    made = json.loads(output.out, parse_constant=pytest.fail)
    assert made["title"] == fake_answer.answer().title
    assert made["unknown"] is None
    assert ("usd = hours devices price" in output.err) == bool(explain)
    assert (str(file) in output.err) == page
    assert file is None or file.is_file()


def test_the_terminal_shows_the_answer_or_what_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    give(fake_answer.answer(), as_json=False, explain=None, html=None)
    whole = capsys.readouterr().out
    assert "Layouts, the best first" in whole
    assert "hours devices price" not in whole
    give(fake_answer.answer(), as_json=False, explain=["usd", "flops"], html=None)
    asked = capsys.readouterr().out
    assert asked.index("usd = hours devices price") < asked.index("flops = 6 N D")
    assert "Layouts, the best first" not in asked


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(("explain", "html"), [(["usb"], None), ([], ".")])
def test_nothing_is_printed_before_an_error(
    as_json: bool, explain: list[str], html: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError):
        give(fake_answer.answer(), as_json=as_json, explain=explain, html=(html and Path(html)) or None)
    assert capsys.readouterr().out == ""


def test_a_verb_prints_one_object_and_all_else_elsewhere(groundup: Cli, tmp_path: Path) -> None:
    page = tmp_path / "new" / "ledger.html"
    finished = groundup("plan", "ledger", "gpt2", "--json", "--explain", "all", "--html", page)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("\n") == 1
    assert json.loads(finished.stdout)["parameters"] == 124_439_808
    assert "parameters = " in finished.stderr
    assert "= 124,439,808" in finished.stderr
    assert str(page) in finished.stderr.replace("\n", "")
    assert 'data-figure="parameters"' in page.read_text("utf-8")


def test_a_verb_fits_a_terminal_of_80_columns(groundup: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    finished = groundup("plan", "memory", "--params", "70B", "--gpus", "64")
    assert finished.returncode == 0, finished.stderr
    assert max(map(len, finished.stdout.splitlines())) <= 80
    assert "parameters" in finished.stdout


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_an_unknown_figure_is_one_line_with_the_nearest_name(groundup: Cli, options: tuple[str, ...]) -> None:
    finished = groundup("plan", "ledger", "gpt2", "--explain", "parameter", *options)
    assert finished.returncode == 2
    (line,) = finished.stderr.splitlines()
    assert line.startswith("error: --explain parameter: ")
    assert "did you mean 'parameters'?" in line
    assert finished.stdout == (json.dumps({"error": line.removeprefix("error: ")}) + "\n" if options else "")
