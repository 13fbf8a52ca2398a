"""Stopping and continuing `groundup words train`: what is refused, and why."""

import io
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from groundup.errors import UserError
from groundup.pipeline import words
from groundup.pipeline.word_bars import WordBars
from groundup.words.settings import TextSettings, Word2VecSettings
from groundup.words.shares import Tally

SETTINGS = Word2VecSettings(dimension=4, epochs=50)
TEXT = "one two three four " * 3000


class Stopping(WordBars):
    """Presses Ctrl-C as soon as something is learnt."""

    @contextmanager
    def learning(self, total: int, done: int, unit: str) -> Iterator[Callable[[Tally], None]]:
        yield lambda _: os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def bars() -> WordBars:
    return WordBars(Console(file=io.StringIO()))


def test_another_text_is_not_gone_on_with(tmp_path: Path, bars: WordBars) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    text = TextSettings(sources=[str(tmp_path / "text.txt")])
    stopped = words.train(text, SETTINGS, tmp_path / "made", Stopping(Console(file=io.StringIO())))
    assert stopped["resumable"]
    assert "continue: groundup words train --resume --out" in words.stopped(stopped)
    (tmp_path / "text.txt").write_text(TEXT + "one two ")
    with pytest.raises(UserError, match="its text is not what it was"):
        words.resume(tmp_path / "made", bars)
    (tmp_path / "text.txt").write_text(TEXT)
    assert words.resume(tmp_path / "made", bars)["finished"]


def test_standard_input_cannot_be_gone_on_with(
    tmp_path: Path, bars: WordBars, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = io.TextIOWrapper(io.BufferedReader(io.BytesIO(TEXT.encode())))  # type: ignore[arg-type]
    monkeypatch.setattr("sys.stdin", given)
    stopped = words.train(
        TextSettings(sources=["-"]), SETTINGS, tmp_path / "made", Stopping(Console(file=io.StringIO()))
    )
    assert not stopped["finished"]
    assert "cannot be continued, as its text came from standard input" in words.stopped(stopped)
    with pytest.raises(UserError, match="came from standard input"):
        words.resume(tmp_path / "made", bars)


@pytest.mark.parametrize("damaged", ["words.json", "state.safetensors", "vocabulary.txt"])
def test_damage_is_an_error_in_one_line(tmp_path: Path, bars: WordBars, damaged: str) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    text = TextSettings(sources=[str(tmp_path / "text.txt")])
    words.train(text, SETTINGS, tmp_path / "made", Stopping(Console(file=io.StringIO())))
    (tmp_path / "made" / damaged).write_bytes(b"\xff{")
    with pytest.raises(UserError) as raised:
        words.resume(tmp_path / "made", bars)
    assert damaged in str(raised.value)
