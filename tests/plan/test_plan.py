"""The room as a whole: it is callable and never imports torch."""

import json
import subprocess
import sys

import pytest

import groundup.plan
from groundup.errors import UserError
from groundup.plan.choose import Plan
from groundup.plan.hardware import Hardware
from groundup.recipe import Recipe

_IMPORT_ALL = """
import importlib, json, pkgutil, sys
import groundup.plan
names = [module.name for module in pkgutil.iter_modules(groundup.plan.__path__)]
for name in names:
    importlib.import_module(f"groundup.plan.{name}")
heavy = sorted({"torch", "transformers", "pyarrow"} & set(sys.modules))
print(json.dumps([names, heavy]))
"""


def test_no_module_imports_torch() -> None:
    answer = subprocess.run([sys.executable, "-c", _IMPORT_ALL], capture_output=True, text=True, check=True)
    names, heavy = json.loads(answer.stdout)
    assert {"answer", "choose", "flops", "memory", "parameters"} <= set(names)
    assert heavy == []


def test_the_room_can_be_called(hardware: Hardware) -> None:
    plan = groundup.plan("10m", hardware, corpus_bytes=1e8)
    assert isinstance(plan, Plan)
    assert plan.train_seconds <= 600


def test_a_recipe_is_respected(hardware: Hardware) -> None:
    recipe = Recipe.model_validate({"model": {"family": "gpt2"}, "tokenizer": {"vocabulary_size": 1000}})
    shape = groundup.plan("10m", hardware, 1e8, recipe).shape
    assert (shape.family, shape.vocabulary_size) == ("gpt2", 1000)


def test_a_budget_that_is_not_understood_is_refused(hardware: Hardware) -> None:
    with pytest.raises(UserError, match="'soon' is not understood"):
        groundup.plan("soon", hardware, 1e8)
