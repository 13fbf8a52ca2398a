"""The model card: what the model is, what it was made from, what it reached and what it cost."""

from typing import Any

from groundup import __version__
from groundup.pipeline.numbers import bytes_text, human, seconds_text
from groundup.recipe import Recipe
from groundup.train.checkpoints import TrainState

_FRONT_MATTER = """---
library_name: transformers
pipeline_tag: text-generation
tags:
- groundup
---
"""


def model_card(
    recipe: Recipe, plan: dict[str, Any], outcome: dict[str, Any], samples: list[dict[str, Any]]
) -> str:
    """The card of a finished run, as Markdown with the Hub's front matter."""
    steps, epochs = f"{outcome['steps']:,} steps", f"{outcome['epochs']:.2f} epochs"
    figures = {
        "held-out bits per byte": f"{outcome['bits_per_byte']:.4f}",
        "the same by counting pairs of tokens": f"{outcome['bigram_bits_per_byte']:.4f}",
        "held-out loss, nats per token": f"{outcome['loss']:.4f}",
        "perplexity per token": f"{outcome['perplexity']:.2f}",
        "bytes per token": f"{outcome['bytes_per_token']:.2f}",
        "tokens trained on": f"{outcome['tokens']:,} in {steps}, {epochs}",
    }
    if outcome["best_step"] != outcome["steps"]:
        figures["kept"] = f"the model of step {outcome['best_step']:,}, which had the lowest held-out loss"
    total, training = seconds_text(outcome["total_seconds"]), seconds_text(outcome["train_seconds"])
    cost = {
        "time": f"{total}, of which {training} training",
        "computation": f"{human(outcome['flops'])}FLOP",
        "energy, estimated": f"{outcome['energy_wh']:.2f} Wh",
    }
    origin = "trained from nothing with"
    return _card(recipe, plan, outcome["parameters"], origin, figures, cost, samples)


def checkpoint_card(
    recipe: Recipe,
    plan: dict[str, Any],
    parameters: int,
    state: TrainState,
    validation: dict[str, Any] | None,
    samples: list[dict[str, Any]],
) -> str:
    """The card of one checkpoint; `validation` is the last row of metrics on held-out text up to it."""
    figures: dict[str, str] = {}
    if validation is not None:
        at = f"at step {validation['step']:,}"
        figures |= {
            f"held-out bits per byte, {at}": f"{validation['val_bits_per_byte']:.4f}",
            f"held-out loss, nats per token, {at}": f"{validation['val_loss']:.4f}",
        }
    figures["tokens trained on"] = f"{state.tokens:,} in {state.step:,} steps"
    cost = {"time": f"{seconds_text(state.seconds)} training"}
    origin = f"trained for {state.step:,} steps from nothing with"
    return _card(recipe, plan, parameters, origin, figures, cost, samples)


def _card(
    recipe: Recipe,
    plan: dict[str, Any],
    parameters: int,
    origin: str,
    figures: dict[str, str],
    cost: dict[str, str],
    samples: list[dict[str, Any]],
) -> str:
    shape, corpus, hardware = plan["shape"], plan["corpus"], plan["hardware"]
    attribution = "".join(f"- {line}\n" for line in corpus["attribution"])
    written = "\n".join(_sample(row) for row in samples)
    machine = {"machine": f"{hardware['name']}, {hardware['threads']} threads, {plan['precision']}"}
    return f"""{_FRONT_MATTER}
# {recipe.name}

A {shape["family"]} decoder of {human(parameters)} parameters ({shape["num_layers"]} layers, width
{shape["width"]}, context {shape["context"]}, vocabulary {shape["vocabulary_size"]}), {origin}
groundup {__version__}. It is as good as its small budget allows: read what it writes as a demonstration.

## Figures
{table(figures)}

## Cost
{table(cost | machine)}

## Data
{bytes_text(corpus["bytes"])} in {corpus["documents"]:,} documents from {", ".join(corpus["sources"])};
{bytes_text(corpus["held_out_bytes"])} held out. SHA-256 of the text: `{corpus["sha256"]}`.
{attribution}
## Use
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("FOLDER")
model = AutoModelForCausalLM.from_pretrained("FOLDER")
ids = tokenizer("<|endoftext|>Once", return_tensors="pt").input_ids
print(tokenizer.decode(model.generate(ids, max_new_tokens=50)[0]))
```

## Samples
{written}
## Recipe
```toml
{recipe.to_toml()}```
"""


def table(rows: dict[str, str]) -> str:
    """Two columns of Markdown."""
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _sample(row: dict[str, Any]) -> str:
    quoted = "\n".join(f"> {line}" for line in (row["prompt"] + row["text"]).splitlines())
    return f"Prompt: `{row['prompt'] or 'a new document'}`\n\n{quoted}\n"
