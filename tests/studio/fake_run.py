"""Run folders to report on: believable files, written as `groundup build` writes them."""

import json
import math
from pathlib import Path
from typing import Any

from groundup.plan.parameters import non_embedding, total
from groundup.recipe import parse
from groundup.run import Run
from groundup.shape import Shape
from groundup.tokenizer import Tokenizer

BYTES_PER_TOKEN = 3.1
STEP_TOKENS = 8_192
PROMPTS = ("", "The ", "春天")


def shape(**changes: Any) -> Shape:
    """A small decoder."""
    numbers = {
        "family": "qwen3", "num_layers": 4, "width": 192, "num_heads": 3, "num_kv_heads": 1, "head_width": 64,
        "feedforward_width": 512, "vocabulary_size": 600, "context": 256,
    }  # fmt: skip
    return Shape.model_validate(numbers | changes)


def new_run(folder: Path) -> Run:
    """A run of which only the recipe exists."""
    tree = {"name": "two minutes", "description": "English and Chinese", "budget": "2m"}
    return Run.create(folder, parse(tree, "test"))


def add_plan(run: Run, steps: int, model: Shape | None = None) -> dict[str, Any]:
    """What the planner writes before the first step."""
    model = model or shape()
    tokens = steps * STEP_TOKENS
    plan = {
        "shape": model.model_dump(),
        "parameters": total(model),
        "non_embedding_parameters": non_embedding(model),
        "precision": "fp32",
        "batch_size": 32,
        "micro_batch": 32,
        "lr": 3.1e-3,
        "steps": steps,
        "tokens": tokens,
        "epochs": tokens / 6_301_544,
        "flops": 6.0 * total(model) * tokens,
        "train_seconds": 120.0,
        "tokens_per_second": tokens / 120.0,
        "peak_bytes": 1_630_000_000,
        "bits_per_byte": 1.53,
        "bits_per_byte_low": 1.42,
        "bits_per_byte_high": 1.64,
        "law": "fitted on 38 small runs, 2026-11",
        "budget": {"kind": "seconds", "amount": 120.0, "text": "2m"},
        "hardware": {
            "name": "AMD EPYC 7B13", "device": "cpu", "threads": 2, "memory_bytes": 25_165_824_000,
            "flops_fp32": 1.62e11, "flops_bf16": 6.1e10, "memory_bandwidth": 2.4e10,
        },
        "corpus": {
            "sources": ["wiki-en", "texts/luxun.jsonl"], "documents": 10_412, "bytes": 19_812_301,
            "train_bytes": 19_534_787, "held_out_bytes": 277_514, "bytes_per_token": BYTES_PER_TOKEN,
            "compressibility": 2.07,
            "attribution": ["wiki-en: introductions of vital articles of English Wikipedia, CC BY-SA 4.0"],
        },
    }  # fmt: skip
    run.save_plan(plan)
    return plan


def add_metrics(run: Run, steps: int, planned: int, validations: int = 8) -> list[dict[str, Any]]:
    """A falling loss with noise that depends on the step alone; a validation row at each eighth of the plan."""
    rows: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        noise = math.sin(12.9898 * step) * 43758.5453 % 1 - 0.5
        tokens, seconds = step * STEP_TOKENS, 0.4 + step * 116.3 / planned
        loss = 3.55 + 2.9 * math.exp(-step / (0.06 * planned)) * (step / 3) ** -0.05 - 0.4 * step / planned
        rows.append(
            {
                "step": step,
                "tokens": tokens,
                "seconds": seconds,
                "loss": loss + 0.16 * noise,
                "lr": 3.1e-3 * min(1.0, step / (0.03 * planned), 1.02 - step / planned),
                "grad_norm": 0.35 + 2.5 * math.exp(-step / (0.03 * planned)) + 0.2 * abs(noise) + (noise > 0.497),
                "tokens_per_second": planned * STEP_TOKENS / 116.3 * (1 + 0.05 * noise - 0.35 * (noise > 0.48)),
            }
        )
        if step % max(1, planned // validations) == 0:
            held_out = {
                "val_loss": loss + 0.09,
                "val_bits_per_byte": (loss + 0.09) / math.log(2) / BYTES_PER_TOKEN,
            }
            rows.append({"step": step, "tokens": tokens, "seconds": seconds} | held_out)
    write_rows(run.metrics_file, rows)
    return rows


def add_outcome(run: Run, plan: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the end of a run writes."""
    train = [row for row in rows if "loss" in row][-1]
    loss = [row for row in rows if "val_loss" in row][-1]["val_loss"] + 0.004
    outcome = {
        "steps": train["step"],
        "tokens": train["tokens"],
        "epochs": train["tokens"] / 6_301_544,
        "flops": plan["flops"] * train["tokens"] / plan["tokens"],
        "train_seconds": train["seconds"],
        "total_seconds": 152.4,
        "tokens_per_second": train["tokens"] / train["seconds"],
        "utilisation": 0.6132,
        "loss": loss,
        "bits_per_byte": loss / math.log(2) / BYTES_PER_TOKEN,
        "perplexity": math.exp(loss),
        "bytes_per_token": BYTES_PER_TOKEN,
        "peak_bytes": 1_812_000_000,
        "energy_wh": 1.94,
        "parameters": plan["parameters"],
        "stages": {"read": 3.2, "tokenizer": 9.8, "encode": 7.1, "train": train["seconds"], "validate": 8.3},
    }  # fmt: skip
    run.save_outcome(outcome)
    return outcome


def add_samples(run: Run, rows: list[dict[str, Any]], texts: dict[str, list[str]]) -> None:
    """A sample of each prompt at each validation; a prompt's last text is repeated where they run out."""
    samples = []
    for number, row in enumerate(row for row in rows if "val_loss" in row):
        for prompt, written in texts.items():
            text = written[min(number, len(written) - 1)]
            samples.append({"step": row["step"], "tokens": row["tokens"], "prompt": prompt, "text": text})
    write_rows(run.samples_file, samples)


def add_tokenizer(run: Run) -> Tokenizer:
    """A tokenizer trained on a few sentences."""
    documents = [
        "The spring comes and the river sings of the sea. ",
        "春天来了,河水唱着歌流向大海。",
        "x = 3.14\n",
    ] * 9
    tokenizer = Tokenizer.train(documents, vocabulary_size=300)
    tokenizer.save(run.tokenizer)
    return tokenizer


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    """A .jsonl file."""
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def finished_run(folder: Path, texts: dict[str, list[str]], steps: int = 400) -> Run:
    """A run that has reached its end, with everything that a run writes before its report."""
    run = new_run(folder)
    plan = add_plan(run, steps)
    rows = add_metrics(run, steps, steps)
    add_samples(run, rows, texts)
    add_tokenizer(run)
    add_outcome(run, plan, rows)
    return run
