"""The model card: what the model is, what it was made from, what it reached and what it cost."""

from typing import Any

from groundup import __version__
from groundup.pipeline.numbers import bytes_text, human, seconds_text
from groundup.recipe import Recipe

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
    """The card as Markdown with the Hub's front matter."""
    shape, corpus, hardware = plan["shape"], plan["corpus"], plan["hardware"]
    attribution = "".join(f"- {line}\n" for line in corpus["attribution"])
    written = "\n".join(_sample(row) for row in samples)
    return f"""{_FRONT_MATTER}
# {recipe.name}

A {shape["family"]} decoder of {human(outcome["parameters"])} parameters ({shape["num_layers"]} layers, width
{shape["width"]}, context {shape["context"]}, vocabulary {shape["vocabulary_size"]}), trained from nothing with
groundup {__version__}. It is as good as its small budget allows: read what it writes as a demonstration.

## Figures
| | |
|---|---|
| held-out bits per byte | {outcome["bits_per_byte"]:.4f} |
| held-out loss, nats per token | {outcome["loss"]:.4f} |
| perplexity per token | {outcome["perplexity"]:.2f} |
| bytes per token | {outcome["bytes_per_token"]:.2f} |
| tokens trained on | {outcome["tokens"]:,} in {outcome["steps"]:,} steps, {outcome["epochs"]:.2f} epochs |

## Cost
| | |
|---|---|
| time | {seconds_text(outcome["total_seconds"])}, of which {seconds_text(outcome["train_seconds"])} training |
| computation | {human(outcome["flops"])}FLOP |
| energy, estimated | {outcome["energy_wh"]:.2f} Wh |
| machine | {hardware["name"]}, {hardware["threads"]} threads, {plan["precision"]} |

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


def _sample(row: dict[str, Any]) -> str:
    quoted = "\n".join(f"> {line}" for line in (row["prompt"] + row["text"]).splitlines())
    return f"Prompt: `{row['prompt'] or 'a new document'}`\n\n{quoted}\n"
