"""`groundup feedback`: the server as a process, killed while it writes, and what is made of its file."""

import json
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from groundup.cli.main import main
from groundup.data.conversations import read_preferences
from groundup.studio.feedback.store import Store
from tests.chatting import BASE, random_model, save
from tests.cli.support import GROUNDUP
from tests.studio.serving import serving

QUESTIONS = 300


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    """Questions with two answers each, as a file."""
    file = tmp_path / "ready.jsonl"
    lines = [{"prompt": f"question {n}", "answers": [f"first {n}", f"second {n}"]} for n in range(QUESTIONS)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


@contextmanager
def server(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and the address that it tells."""
    command = [*GROUNDUP, "feedback", *map(str, arguments), "--no-browser"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"http://\S+/", line):
                yield process, found[0]
                return
        raise AssertionError(f"it ended with {process.wait()}")
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def choice(rater: str, question: int, **parts: Any) -> dict[str, Any]:
    given = {"id": f"{rater}-{question}-{'x' * 8}", "rater": rater, "question": question, "verdict": "better"}
    return given | {"answer": 0, "shown": [1, 0], "milliseconds": 900} | parts


def judge_at(address: str, out: Path, judgement: dict[str, Any]) -> httpx.Response:
    with Store(out) as store:
        return httpx.post(f"{address}api/judgements", params={"session": store.session()}, json=judgement)


def next_of(address: str, out: Path, rater: str) -> dict[str, Any]:
    with Store(out) as store:
        parameters = {"rater": rater, "session": store.session()}
    return httpx.get(f"{address}api/next", params=parameters).json()


def test_kill_9_loses_no_acknowledged_judgement(ready: Path, tmp_path: Path) -> None:
    """Three raters judge without pause; what the server acknowledged before it was killed is in the file."""
    out, acknowledged = tmp_path / "f.sqlite", []

    def judge(rater: str, address: str) -> None:
        with Store(out) as store, httpx.Client(base_url=address, params={"session": store.session()}) as client:
            for number in range(QUESTIONS):
                judgement = choice(rater, number)
                try:
                    response = client.post("api/judgements", json=judgement)
                except httpx.HTTPError:
                    return
                if response.status_code == 200:
                    acknowledged.append(judgement["id"])

    with server(ready, "--out", out) as (process, address):
        threads = [threading.Thread(target=judge, args=(rater, address)) for rater in ("anna", "bob", "eve")]
        for thread in threads:
            thread.start()
        while len(acknowledged) < 60:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        for thread in threads:
            thread.join()
        assert process.wait() == -signal.SIGKILL
    assert 60 <= len(acknowledged) < 3 * QUESTIONS, "it was killed in the middle"
    with Store(out) as store:
        stored = [each.id for each in store.judgements()]
    assert set(acknowledged) <= set(stored)
    assert len(stored) == len(set(stored)) <= len(acknowledged) + 3
    # It is gone on with, and a judgement whose acknowledgement was lost is sent again.
    with server(out) as (process, address):
        assert judge_at(address, out, choice("anna", 0)).status_code == 200
        assert next_of(address, out, "anna")["done"] == sum(name.startswith("anna") for name in stored)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0
        assert process.stderr is not None
        assert process.stderr.read().splitlines()[-1] == f"stopped; the judgements are in {out}"


def test_answers_of_a_model_are_judged_exported_and_summed_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save(tmp_path / "model", random_model())
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "f.sqlite"
    prompts.write_text('{"prompt": "Hi"}\n{"prompt": "%s"}\n' % ("much too long " * 20))
    arguments = [model, prompts, "--out", out, "--max-tokens", 6, "--seed", 3]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with server(*arguments, "--port", port) as (_, address):
            assert not address.endswith(f":{port}/")
            reply: dict[str, Any] = {"state": "writing"}
            while reply["state"] == "writing":
                reply = next_of(address, out, "anna")
                time.sleep(0.05)
            assert reply["total"] == 1, "the second prompt does not fit"
            shown = [answer["number"] for answer in reply["question"]["answers"]]
            texts = {answer["number"]: answer["text"] for answer in reply["question"]["answers"]}
            assert len(set(texts.values())) == 2
            for rater in ("anna", "bob"):
                judge_at(address, out, choice(rater, 0, shown=shown)).raise_for_status()
            # Summing up while the server has the file open.
            assert main(["feedback", str(out), "--summary", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["judgements"] == 2
    assert figures["left_out"] == 1
    assert figures["agreement"]["choices"]["raw_agreement"] == 1
    with Store(out) as store:
        sampling = store.question(0).answers[0].sampling
    assert sampling is not None
    assert (sampling["temperature"], sampling["max_tokens"]) == (1.0, 6)
    pairs = tmp_path / "pairs.jsonl"
    assert main(["feedback", str(out), "--export", str(pairs), "--majority"]) == 0
    assert "1 pairs in" in capsys.readouterr().out
    [pair] = read_preferences([str(pairs)])
    assert (pair.chosen[0]["content"], pair.rejected[0]["content"]) == (texts[0], texts[1])


def test_a_writer_that_fails_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the page while it is open, and in one line at the end; --limit asks the first prompts only."""
    monkeypatch.chdir(tmp_path)
    save(Path("model"), random_model())
    Path("prompts.jsonl").write_text("".join(f'{{"prompt": "Hi {number}"}}\n' for number in range(5)))
    replies: list[dict[str, Any]] = []

    def fail(*_: object) -> None:
        raise RuntimeError("out of\nmemory")

    def serve_until_told(app: Any, *_: object, **__: object) -> None:
        with Store(Path("f.sqlite")) as store, serving(app) as address:
            parameters = {"rater": "anna", "session": store.session()}
            while not replies or replies[-1]["state"] == "writing":
                replies.append(httpx.get(f"{address}api/next", params=parameters).json())

    monkeypatch.setattr(Store, "answer", fail)
    monkeypatch.setattr("groundup.studio.local.serve", serve_until_told)
    assert main(["feedback", "model", "prompts.jsonl", "--out", "f.sqlite", "--limit", "2"]) == 2
    told = "RuntimeError: out of memory"
    assert (replies[-1]["state"], replies[-1]["error"], replies[-1]["total"]) == ("failed", told, 2)
    end, error = capsys.readouterr().err.splitlines()
    assert end == "stopped; the judgements are in f.sqlite"
    assert error.startswith("error: ") and told in error


BAD = {
    "no such file": (["nothing.sqlite"], "nothing.sqlite"),
    "a summary of no feedback file": (["ready.jsonl", "--summary"], "no feedback file"),
    "pairs into no folder": (["ready.jsonl", "--export", "none/pairs.jsonl"], "no folder none"),
    "a file without questions": (["empty.sqlite"], "no questions"),
    "a majority of nothing": (["ready.jsonl", "--majority"], "--export"),
    "answers that are missing": (["prompts.jsonl"], "prompts.jsonl, line 1"),
    "a model without prompts": (["model"], "name the prompts"),
    "answers that are all alike": (["model", "prompts.jsonl", "--temperature", "0"], "--temperature 0"),
    "a model that does not answer": (["base", "prompts.jsonl"], "groundup sft"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(
    name: str, ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.jsonl").write_text('{"prompt": "Hi"}\n')
    save(Path("model"), random_model())
    save(Path("base"), random_model(), BASE)
    Store(Path("empty.sqlite")).__exit__()
    before = sorted(tmp_path.iterdir())
    arguments, expected = BAD[name]
    assert main(["feedback", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert expected in error
    assert sorted(tmp_path.iterdir()) == before
