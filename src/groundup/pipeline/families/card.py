"""The model card of a family's run, finished or not."""

from typing import Any

from groundup import __version__
from groundup.pipeline.card import table
from groundup.pipeline.numbers import human, seconds_text
from groundup.recipe import Recipe
from groundup.shape import family
from groundup.train.checkpoints import TrainState


def finished_card(recipe: Recipe, plan: dict[str, Any], outcome: dict[str, Any]) -> str:
    """The card of a finished run, as Markdown with the Hub's front matter."""
    figures = {
        "held-out loss, nats per answer": f"{outcome['loss']:.4f}",
        "the same by how often each answer occurs": f"{outcome['baseline_loss']:.4f}",
    }
    if outcome["accuracy"] is not None:
        frequent = f"the most frequent one: {outcome['baseline_accuracy']:.1%}"
        figures["right answers"] = f"{outcome['accuracy']:.1%} ({frequent})"
    if "bits_per_byte" in outcome:
        counted = f"counting pairs of tokens: {outcome['bigram_bits_per_byte']:.4f}"
        figures["bits per byte"] = f"{outcome['bits_per_byte']:.4f} ({counted})"
    total, training = seconds_text(outcome["total_seconds"]), seconds_text(outcome["train_seconds"])
    epochs = f"{outcome['epochs']:.2f} epochs"
    cost = {
        "trained on": f"{outcome['tokens']:,} tokens in {outcome['steps']:,} steps, {epochs}",
        "time": f"{total}, of which {training} training",
    }
    return _card(recipe, plan, figures, cost)


def unfinished_card(
    recipe: Recipe, plan: dict[str, Any], state: TrainState, validation: dict[str, Any] | None
) -> str:
    """The card of one checkpoint; `validation` is the last row of metrics on held-out rows up to it."""
    figures = {}
    if validation is not None:
        at = f"at step {validation['step']:,}"
        figures[f"held-out loss, nats per answer, {at}"] = f"{validation['val_loss']:.4f}"
    cost = {"trained for": f"{state.step:,} steps, {seconds_text(state.seconds)}"}
    return _card(recipe, plan, figures, cost)


def _card(recipe: Recipe, plan: dict[str, Any], figures: dict[str, str], cost: dict[str, str]) -> str:
    shape, corpus, hardware = plan["shape"], plan["corpus"], plan["hardware"]
    traits = family(shape["family"])
    machine = {"machine": f"{hardware['name']}, {hardware['threads']} threads, {plan['precision']}"}
    return f"""---
tags:
- groundup
---

# {recipe.name}

A model of the family {shape["family"]} ({traits.year}) with {human(plan["parameters"])} parameters, trained from
nothing with groundup {__version__}. Objective: {traits.objective}. It sees {traits.sees}, and {traits.purpose}.

## Figures
{table(figures)}

## Cost
{table(cost | machine)}

## Data
{corpus["documents"]:,} documents from {", ".join(map(str, corpus["sources"]))}.

## Recipe
```toml
{recipe.to_toml()}```
"""
