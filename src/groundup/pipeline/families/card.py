"""The model card of a family's run."""

from typing import Any

from groundup import __version__
from groundup.pipeline.card import table
from groundup.pipeline.numbers import human, seconds_text
from groundup.recipe import Recipe
from groundup.shape import family


def family_card(recipe: Recipe, plan: dict[str, Any], outcome: dict[str, Any]) -> str:
    """The card of a finished run, as Markdown with the Hub's front matter."""
    shape, corpus, hardware = plan["shape"], plan["corpus"], plan["hardware"]
    traits = family(shape["family"])
    figures = {
        "held-out loss, nats per answer": f"{outcome['loss']:.4f}",
        "the same by how often each answer occurs": f"{outcome['baseline_loss']:.4f}",
    }
    if outcome["accuracy"] is not None:
        figures["right answers"] = (
            f"{outcome['accuracy']:.1%} (the most frequent one: {outcome['baseline_accuracy']:.1%})"
        )
    if "bits_per_byte" in outcome:
        figures["bits per byte"] = f"{outcome['bits_per_byte']:.4f}"
    total, training = seconds_text(outcome["total_seconds"]), seconds_text(outcome["train_seconds"])
    epochs = f"{outcome['epochs']:.2f} epochs"
    cost = {
        "trained on": f"{outcome['tokens']:,} tokens in {outcome['steps']:,} steps, {epochs}",
        "time": f"{total}, of which {training} training",
        "machine": f"{hardware['name']}, {hardware['threads']} threads, {plan['precision']}",
    }
    return f"""---
tags:
- groundup
---

# {recipe.name}

A model of the family {shape["family"]} ({traits.year}) with {human(outcome["parameters"])} parameters, trained
from nothing with groundup {__version__}. Objective: {traits.objective}. It sees
{traits.sees}, and {traits.purpose}.

## Figures
{table(figures)}

## Cost
{table(cost)}

## Data
{corpus["documents"]:,} documents from {", ".join(map(str, corpus["sources"]))}.

## Recipe
```toml
{recipe.to_toml()}```
"""
