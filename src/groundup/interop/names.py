"""Tensors renamed by a table of modules. Nothing here needs torch."""

import re
from collections.abc import Callable, Mapping


def renamer(names: Mapping[str, str]) -> Callable[[str], str]:
    """A function that renames `layer.3.part.weight` by a table: {i} in it is the layer, {e} the expert.

    The table has names of modules, without the leaf (`weight`, `bias`); what is not in it keeps its name.
    """

    def rename(name: str) -> str:
        module, _, leaf = name.rpartition(".")
        numbers = dict(zip(("{i}", "{e}"), re.findall(r"(?<=\.)\d+(?=\.)", name), strict=False))
        pattern = module
        for placeholder, number in numbers.items():
            pattern = pattern.replace(f".{number}.", f".{placeholder}.", 1)
        if pattern not in names:
            return name
        renamed = names[pattern]
        for placeholder, number in numbers.items():
            renamed = renamed.replace(placeholder, number)
        return f"{renamed}.{leaf}"

    return rename
