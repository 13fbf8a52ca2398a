"""The public names, and that they cost nothing until they are used."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import groundup as gu
from groundup.errors import UserError

_HEAVY = ["torch", "numpy", "pydantic", "transformers", "rich", "pyarrow", "groundup.pipeline.build"]
_LAZY = f"""
import json, sys
heavy = {_HEAVY}
import groundup as gu
loaded = {{"import": [name for name in heavy if name in sys.modules]}}
gu.Tokenizer, gu.plan
import groundup.plan.flops
loaded["plan"] = ["torch"] if "torch" in sys.modules else []
gu.load
loaded["load"] = ["torch"] if "torch" in sys.modules else []
print(json.dumps(loaded))
"""


def test_importing_is_light() -> None:
    answer = subprocess.run([sys.executable, "-c", _LAZY], capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout) == {"import": [], "plan": [], "load": ["torch"]}


def test_every_public_name_is_there() -> None:
    assert {name: callable(getattr(gu, name)) for name in gu.__all__} == dict.fromkeys(gu.__all__, True)
    assert set(gu.__all__) == {"Tokenizer", "build", "load", "load_any", "load_classifier", "plan"}
    assert gu.__version__.count(".") == 2


def test_plan_is_a_room_and_a_question() -> None:
    import groundup.plan.flops

    assert gu.plan is sys.modules["groundup.plan"]
    assert gu.plan.flops is groundup.plan.flops
    with pytest.raises(UserError, match="'soon' is not understood"):
        gu.plan("soon", None, 1e6)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="module 'groundup' has no attribute 'train_all'"):
        gu.train_all  # noqa: B018
    assert not hasattr(gu, "__wrapped__")


def test_building_with_a_mistake_makes_nothing(tmp_path: Path) -> None:
    for options in ({"settings": {"train.rl": 1}}, {"budget": "soon"}, {"recipe": "nonesuch"}, {"seed": -1}):
        with pytest.raises(UserError) as error:
            gu.build(["text.txt"], out=tmp_path / "run", quiet=True, **options)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "run").exists()


def test_loading_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is neither a run nor a model folder"):
        gu.load(tmp_path)
