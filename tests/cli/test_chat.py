"""`groundup chat` in a pipe and in a terminal."""

import json
import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import pytest

from groundup.cli.main import main
from groundup.data.conversations import read_conversations
from groundup.seeds import derive
from groundup.serve.chat import AnswerSettings, Chat
from groundup.serve.sampling import Sampling
from tests.chatting import BASE, TOKENIZER, random_model, reciting_model, save
from tests.cli.support import GROUNDUP, Result

GREEDY = ["--temperature", "0", "--max-tokens", "8"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It says `abcdefgh` and so on, wherever it begins."""
    return save(tmp_path_factory.mktemp("models") / "reciting", reciting_model("abcdefgh", 40))


def chat(folder: Path, lines: list[str], *arguments: object, cwd: Path | None = None) -> Result:
    command = [*GROUNDUP, "chat", str(folder), *map(str, arguments)]
    text = "".join(line + "\n" for line in lines)
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, cwd=cwd)


def test_each_line_of_a_pipe_is_a_turn(model: Path, tmp_path: Path) -> None:
    lines = ["Hi", "", "And?", "/save talk.jsonl", "/save talk.jsonl", "/reset", "/system Be brief.", "Hi"]
    result = chat(model, [*lines, "/sav x", "/quit", "never"], *GREEDY, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    answers = result.stdout.splitlines()
    assert len(answers) == 3
    assert all(len(answer) == 8 and answer in "abcdefgh" * 3 for answer in answers)
    notes = [line for line in result.stderr.splitlines() if "cut off" not in line]
    assert notes == [
        "[saved to talk.jsonl]",
        "[saved to talk.jsonl]",
        "[a new conversation]",
        "[a new conversation with this instruction]",
        "[unknown command /sav; did you mean 'save'?]",
    ]
    [talk] = read_conversations([str(tmp_path / "talk.jsonl")])
    assert [message["content"] for message in talk.messages] == ["Hi", answers[0], "And?", answers[1]]


def test_options_reach_the_answers(tmp_path: Path) -> None:
    folder = save(tmp_path / "random", random_model())
    (tmp_path / "there.txt").write_text("mine")
    options = ["--system", "Be kind.", "--temperature", 0.9, "--top-k", 30, "--top-p", 0.9, "--max-tokens", 9]
    result = chat(folder, ["Hi", "/save there.txt", "/save saved.jsonl"], *options, "--seed", 4, cwd=tmp_path)
    settings = AnswerSettings(Sampling(0.9, 30, 0.9), 9, derive(4, "answer 0"))
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    expected = "".join(Chat(random_model(), TOKENIZER, "").answer(messages, settings))
    saved = json.loads((tmp_path / "saved.jsonl").read_text())["messages"]
    assert saved == [*messages, {"role": "assistant", "content": expected}]
    assert (tmp_path / "there.txt").read_text() == "mine"
    assert "there.txt is there already" in result.stderr


def test_a_base_model_is_sent_to_sft(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save(tmp_path / "base", random_model(), BASE)
    for arguments in ([], ["--page", "--no-browser"]):
        assert main(["chat", str(folder), *arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert f"groundup sft {folder}" in error


# Where the tests themselves run in the background, they ignore Ctrl-C, and so would their children.
HEARS_CTRL_C = [
    *GROUNDUP[:-1],
    f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {GROUNDUP[-1]}",
]


class Terminal:
    """A process with a terminal of its own."""

    def __init__(self, command: list[str]):
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env=os.environ | {"TERM": "dumb"},
        )
        os.close(theirs)
        os.set_blocking(self._ours, False)
        self._seen = ""

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def wait_for(self, text: str) -> str:
        """What came until and with `text`."""
        deadline = time.monotonic() + 60
        while text not in self._seen:
            assert time.monotonic() < deadline, f"no {text!r} in {self._seen!r}"
            try:
                self._seen += os.read(self._ours, 1 << 16).decode("utf-8", "replace")
            except BlockingIOError:
                time.sleep(0.01)
        before, _, self._seen = self._seen.partition(text)
        return before

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


def test_ctrl_c_stops_the_answer_and_not_the_program(tmp_path: Path) -> None:
    folder = save(tmp_path / "long", reciting_model("abcdefgh", 400))
    terminal = Terminal([*HEARS_CTRL_C, "chat", str(folder), "--temperature", "0", "--max-tokens", "3000"])
    try:
        terminal.wait_for("> ")
        terminal.type("Hi\n")
        terminal.wait_for("abcdefghabcdefgh")
        terminal.process.send_signal(signal.SIGINT)
        terminal.wait_for("[stopped]")
        terminal.wait_for("> ")
        terminal.process.send_signal(signal.SIGINT)
        terminal.wait_for("Ctrl-D ends]")
        terminal.wait_for("> ")
        # The conversation goes on from what there was of the answer.
        terminal.type(f"/save {tmp_path / 'talk.jsonl'}\n")
        terminal.wait_for("saved to")
        [asked, answered] = json.loads((tmp_path / "talk.jsonl").read_text())["messages"]
        assert asked == {"role": "user", "content": "Hi"}
        assert 16 <= len(answered["content"]) < 3000
        terminal.type("/quit\n")
        assert terminal.process.wait(timeout=10) == 0
    finally:
        terminal.close()


def test_ctrl_c_ends_the_page_in_one_line(model: Path) -> None:
    """Also while an answer is being written."""
    import httpx

    command = [*GROUNDUP, "chat", str(model), "--page", "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        address = process.stderr.readline().split()[1]
        asked = {"conversation": "one", "messages": [{"role": "user", "content": "Hi"}]}
        asked |= {"temperature": 0, "top_k": 0, "top_p": 1, "max_tokens": 200, "seed": 1}
        with httpx.stream("POST", f"{address}api/answer", json=asked) as response:
            lines = response.iter_lines()
            assert "piece" in json.loads(next(lines))
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=10) == 0
        assert process.stderr.read() == "stopped\n"
