"""`groundup translate`."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from groundup.errors import UserError

if TYPE_CHECKING:
    from groundup.serve.alignments import Aligned


def translate(
    model: Annotated[Path, typer.Argument(help="A run's folder or a model folder.")],
    text: Annotated[
        str | None, typer.Argument(help="What to translate; '-': each line of standard input.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Translate the sources of these pairs (.jsonl or .tsv) and measure BLEU and chrF."),
    ] = None,
    source_field: Annotated[str | None, typer.Option(help="The field of the pairs that holds the source.")] = None,
    target_field: Annotated[str | None, typer.Option(help="The field that holds the translation.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Take only so many pairs.")] = None,
    beams: Annotated[int, typer.Option(min=1, max=64, help="How many translations are followed; 1: greedy.")] = 4,
    alignments: Annotated[
        bool, typer.Option("--alignments", help="Also show where in the source each token was read from.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Translate texts, or measure how well a model does it."""
    if (text is None) == (data is None):
        raise UserError("give either a text (or '-' for standard input) or --data FILE")
    from groundup.data.pairs import read_pairs
    from groundup.model.folder import load_any
    from groundup.serve.alignments import align
    from groundup.serve.translate import translate as translated
    from groundup.serve.translate import translator

    loaded = load_any(model)
    checked = translator(loaded.model, loaded.tokenizer)
    if data is not None:
        from groundup.evaluate.translation import score

        pairs = read_pairs([str(data)], source_field=source_field, target_field=target_field).pairs[:limit]
        sources, references = [source for source, _ in pairs], [target for _, target in pairs]
        found = translated(checked, loaded.tokenizer, sources, beams=beams)
        figures = {"pairs": len(pairs), "beams": beams} | score(found, references)
        if as_json:
            print(json.dumps(figures))
            return 0
        print(f"BLEU  {figures['bleu']:.2f}  ({figures['bleu_signature']})")
        print(f"chrF  {figures['chrf']:.2f}  ({figures['chrf_signature']})")
        return 0
    texts = [line.rstrip("\n") for line in sys.stdin] if text == "-" else [str(text)]
    found = translated(checked, loaded.tokenizer, texts, beams=beams)
    aligned = [align(checked, loaded.tokenizer, *pair) for pair in zip(texts, found, strict=True) if alignments]
    if as_json:
        told = {"alignments": [asdict(each) for each in aligned]} if aligned else {}
        print(json.dumps({"translations": found, **told}, ensure_ascii=False))
        return 0
    for number, translation in enumerate(found):
        print(translation)
        if aligned:
            _show(aligned[number])
    return 0


def _show(aligned: "Aligned") -> None:
    """Each token of the target, with the token of the source that it was read from before others."""
    for token, weights in zip(aligned.target, aligned.weights, strict=True):
        best = max(range(len(weights)), key=weights.__getitem__)
        print(f"  {token!r:20} {weights[best]:6.1%}  {aligned.source[best]!r}")
