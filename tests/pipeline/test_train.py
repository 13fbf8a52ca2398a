"""What the recipe says of training, through a whole build."""

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from groundup.pipeline.build import build
from groundup.pipeline.display import Display
from groundup.pipeline.evaluate import evaluate_run
from groundup.recipe import load
from groundup.run import read_rows
from groundup.train.checkpoints import list_checkpoints
from tests.cli.support import make_text

SETTINGS = {
    "data.holdout_bytes": 8192,
    "data.split": "blank-lines",
    "data.packing": "documents",
    "train.threads": 1,
    "train.precision": "fp32",
    "train.compile": "off",
    "train.ema": 0.9,
    "train.batch_warmup": 0.5,
    "train.micro_batch": 2,
    "train.schedule": "trapezoid",
    "train.validation_tokens": 2048,
    "budget": "40ktok",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 40,000 tokens in batches of 8 windows of 64."""
    folder = tmp_path_factory.mktemp("train")
    (folder / "words.txt").write_text(make_text(200_000), "utf-8")
    recipe = load("tiny", SETTINGS | {"data.sources": [str(folder / "words.txt")]})
    threads = torch.get_num_threads()
    build(recipe, folder / "run", Display(Console(quiet=True)))
    torch.set_num_threads(threads)
    return folder / "run"


def test_smaller_batches_are_made_up_for(run: Path) -> None:
    steps = [row for row in read_rows(run / "metrics.jsonl") if "loss" in row]
    sizes = [
        (row["tokens"] - before["tokens"]) / 64
        for before, row in zip([{"tokens": 0}, *steps], steps, strict=False)
    ]
    assert sizes == sorted(sizes)
    assert set(sizes) == {2, 4, 6, 8}
    assert steps[-1]["tokens"] == pytest.approx(40_000, rel=0.02)
    assert len(steps) > 40_000 / 512


def test_the_model_is_the_average_and_measured_within_documents(run: Path) -> None:
    outcome = json.loads((run / "outcome.json").read_text())
    assert evaluate_run(run, None, Display(Console(quiet=True))).together.loss == pytest.approx(
        outcome["loss"], rel=1e-5
    )
    checkpoint = list_checkpoints(run / "checkpoints")[0]
    weights = load_file(checkpoint / "model.safetensors")["embedding.weight"]
    average = load_file(checkpoint / "average.safetensors")["embedding.weight"]
    exported = load_file(run / "model" / "model.safetensors")["model.embed_tokens.weight"]
    assert (exported == average).all()
    assert (exported != weights).any()


def test_the_outcome_says_what_the_steps_waited_for(run: Path) -> None:
    outcome = json.loads((run / "outcome.json").read_text())
    stalls = outcome["stall_seconds"]
    assert stalls.keys() == {"data", "checkpoints", "evaluation"}
    assert min(stalls.values()) > 0
    assert sum(stalls.values()) < outcome["stages"]["train"]
