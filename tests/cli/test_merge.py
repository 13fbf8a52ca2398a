"""`groundup merge` and `groundup eval --with`, as a user has them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from groundup.cli.main import main
from groundup.model.folder import load
from groundup.model.lora import add_adapters
from groundup.tune.adapters import save_adapter
from tests.cli.support import TINY, Result, build_whole, make_text

OPTIONS = [*TINY, "--budget", "30steps", "--set", "train.checkpoint_steps=15", "--set", "train.validations=2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Path:
    """A run with checkpoints of steps 15 and 30; not to be changed."""
    folder = tmp_path_factory.mktemp("merged") / "run"
    build_whole(folder, str(text_file), *OPTIONS)
    return folder


def test_checkpoints_of_a_run_and_the_run_itself(
    run: Path, groundup: Callable[..., Result], tmp_path: Path
) -> None:
    checkpoints = [run / "checkpoints" / f"step-{step}" for step in (15, 30)]
    answer = groundup("merge", *checkpoints, run, "--out", "out", "--weights", "2,1,1", "--json")
    assert answer.returncode == 0, answer.stderr
    made = json.loads(answer.stdout)
    sources = [*map(str, checkpoints), str(run)]
    assert made["merged"] == [
        {"model": source, "weight": weight} for source, weight in zip(sources, (0.5, 0.25, 0.25), strict=True)
    ]
    weights = [load_file(checkpoint / "model.safetensors")["embedding.weight"] for checkpoint in checkpoints]
    found = load_file(tmp_path / "out" / "model.safetensors")["model.embed_tokens.weight"]
    torch.testing.assert_close(found, (weights[0] + weights[1]) / 2)
    assert groundup("generate", "out", "--prompt", "The", "--max-tokens", "3").returncode == 0


def test_adapters_wherever_a_model_is_asked_for(
    run: Path, groundup: Callable[..., Result], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of adapters writes, is measured and is merged; the whole model that results says the same."""
    trained = load(run)
    add_adapters(trained.model, 2, 8.0, "all", 0.0, seed=1)
    with torch.no_grad():
        for name, parameter in trained.model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.02)
    adapter, base = str(tmp_path / "adapter"), str(run / "model")
    save_adapter(
        tmp_path / "adapter", trained.model, trained.tokenizer, base, "# Adapters\n", {"temperature": 0.5}
    )
    (tmp_path / "text.txt").write_text(make_text(3000, seed=5), "utf-8")
    answer = groundup("merge", "adapter", "--out", "whole")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == f"whole: {base} with the adapters of adapter in its weights\n"
    losses, texts = [], []
    for model in (adapter, str(tmp_path / "whole"), base):
        assert main(["eval", model, "--text", str(tmp_path / "text.txt"), "--json"]) == 0
        losses.append(json.loads(capsys.readouterr().out)["loss"])
        assert main(["generate", model, "--prompt", "The", "--max-tokens", "8", "--temperature", "0"]) == 0
        texts.append(capsys.readouterr().out)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert texts[0] == texts[1]
    assert abs(losses[2] - losses[0]) > 1e-3
    assert main(["merge", base, "--out", str(tmp_path / "own")]) == 2
    assert "one whole model is its own average" in capsys.readouterr().err


def test_models_that_predict_together(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Never dearer than on average, on held-out text and on any other."""
    early, text = str(tmp_path / "early"), tmp_path / "other.txt"
    text.write_text(make_text(3000, seed=5), "utf-8")
    assert main(["export", str(run / "checkpoints" / "step-15"), early]) == 0
    for options in ([], ["--text", str(text)]):
        capsys.readouterr()
        alone = []
        for model in (run, early):
            if options or model == run:
                assert main(["eval", str(model), *options, "--json"]) == 0
                alone.append(json.loads(capsys.readouterr().out)["loss"])
        assert main(["eval", str(run), "--with", early, *options, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        losses = [member["loss"] for member in found["members"]]
        assert [member["model"] for member in found["members"]] == [str(run), early]
        assert losses[: len(alone)] == pytest.approx(alone, rel=1e-9)
        assert found["loss"] < sum(losses) / 2 <= max(losses)
    assert main(["eval", str(run), "--with", early]) == 0
    assert capsys.readouterr().out.count("bits per byte") == 3


def test_other_ids_are_refused(
    run: Path, build: Callable[..., object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "short.txt").write_text(make_text(40_000, seed=9).replace("river", "ocean"), "utf-8")
    other, options = tmp_path / "other", ["--budget", "2steps", "--set", "data.holdout_bytes=4000"]
    build(tmp_path / "short.txt", *OPTIONS, *options, "--out", other)
    for arguments in (["eval", str(run), "--with", str(other)], ["merge", str(run), str(other), "--out", "out"]):
        assert main(arguments) == 2
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("error: ")
        assert "tokenizer" in last or "vocabulary_size" in last
