"""What every verb of the planner does with its answer: on the terminal, as JSON, explained, as a page."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


@pytest.fixture
def json_of(groundup: Cli) -> Callable[..., dict[str, Any]]:
    def run(*arguments: str | Path) -> dict[str, Any]:
        finished = groundup(*arguments, "--json")
        assert finished.returncode == 0, finished.stderr
        read: dict[str, Any] = json.loads(finished.stdout)
        return read

    return run
