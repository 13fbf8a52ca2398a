import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.errors import UserError
from groundup.plan.budget import parse_budget
from groundup.recipe import Recipe, known_fields, load, parse, parse_overrides, ready_recipes
from groundup.shape import FAMILIES


def _write(tmp_path: Path, text: str) -> str:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    return str(file)


def _error(name: str, overrides: dict[str, Any] | None = None) -> str:
    with pytest.raises(UserError) as error:
        load(name, overrides)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- ready recipes ---


@pytest.mark.parametrize("name", sorted(ready_recipes()))
def test_ready_recipes_load(name: str) -> None:
    recipe = load(name)
    assert recipe.name == name
    assert recipe.description == ready_recipes()[name]
    assert recipe.model.family in FAMILIES
    assert parse_budget(recipe.budget).amount > 0


def test_a_recipe_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    assert _error("defualt") == "no recipe 'defualt'; did you mean 'default'?"
    assert "no recipe file" in _error(str(tmp_path / "absent.toml"))
    assert "no recipe" in _error(str(tmp_path))
    assert "no recipe" in _error("")


# --- files ---


def test_a_file_is_read_and_named_after_itself(tmp_path: Path) -> None:
    recipe = load(_write(tmp_path, "seed = 5\n[train]\nlr = 3e-4\n"))
    assert (recipe.name, recipe.seed, recipe.train.lr) == ("mine", 5, 3e-4)
    assert recipe.model == Recipe().model
    assert load(_write(tmp_path, 'name = "other"')).name == "other"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("seed = ", "is not valid TOML"),
        ("[train]\nrl = 1", "unknown field 'train.rl'; did you mean 'train.lr'?"),
        ("buget = '1m'", "unknown field 'buget'; did you mean 'budget'?"),
        ("seed = -1", "seed=-1"),
        ("seed = 2147483648", "seed=2147483648"),
        ("seed = 'x'", "seed='x'"),
        ("train = 3", "train=3"),
        ("[train]\nlr = 0", "train.lr=0"),
        ("[train]\nlr = nan", "train.lr=nan"),
        ("[train]\nbatch_size = 1.5", "train.batch_size=1.5"),
        ("[train]\nschedule = 'staircase'", "train.schedule='staircase'"),
        ("[train]\nema = 1", "train.ema=1"),
        ("[train]\ncooldown = 0", "train.cooldown=0"),
        ("[train]\nbatch_warmup_from = 0", "train.batch_warmup_from=0"),
        ("[data]\npacking = 'rows'", "data.packing='rows'"),
        ("[train]\nwarmup = 1", "train.warmup=1"),
        ("[data]\nsources = 'a.txt'", "data.sources='a.txt'"),
        ("[data]\nsources = [1]", "data.sources.0=1"),
        ("[model]\ncontext = 4", "model.context=4"),
        ("[train]\nmemory_limit = 'much'", "train.memory_limit='much': write a size such as 4GB"),
        ("[train]\nmemory_limit = '4XB'", "train.memory_limit='4XB': write a size such as 4GB"),
        ("[train]\nmemory_limit = '0GB'", "train.memory_limit='0GB'"),
        ("[tokenizer]\nvocabulary_size = 256", "tokenizer.vocabulary_size=256"),
        ("budget = 10", "budget=10"),
    ],
)
def test_mistakes_are_told_with_file_and_value(tmp_path: Path, text: str, named: str) -> None:
    file = _write(tmp_path, text)
    message = _error(file)
    assert message.startswith(file)
    assert named in message


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"description = 'caf\xe9'")
    assert "mine.toml" in _error(str(tmp_path / "mine.toml"))


def test_a_section_that_is_none_is_refused_with_overrides_too(tmp_path: Path) -> None:
    assert "train=3" in _error(_write(tmp_path, "train = 3"), {"train.lr": 1e-3})


# --- overrides ---


def test_overrides_win(tmp_path: Path) -> None:
    file = _write(tmp_path, "seed = 5\n[train]\nlr = 3e-4\nclip = 2\n")
    recipe = load(file, {"train.lr": 1e-2, "seed": 6, "model.family": "gpt2"})
    assert (recipe.seed, recipe.train.lr, recipe.train.clip, recipe.model.family) == (6, 1e-2, 2, "gpt2")


@pytest.mark.parametrize(
    ("written", "field", "value"),
    [
        ("train.lr=3e-4", "train.lr", 3e-4),
        (" train.lr = 3e-4 ", "train.lr", 3e-4),
        ("train.batch_size=100", "train.batch_size", 100),
        ("model.tied=false", "model.tied", False),
        ("budget=10m", "budget", "10m"),
        ("budget='10m'", "budget", "10m"),
        ("model.family=gpt2", "model.family", "gpt2"),
        ("data.sources=a.txt,b c.txt", "data.sources", ["a.txt", "b c.txt"]),
        ('data.sources=["a,b.txt"]', "data.sources", ["a,b.txt"]),
        ("sample.prompts=Once", "sample.prompts", ["Once"]),
        ("tokenizer.pattern=a=b", "tokenizer.pattern", "a=b"),
        ("description=", "description", ""),
        ("data.sources=", "data.sources", []),
    ],
)
def test_overrides_are_read_as_toml_or_else_as_text(written: str, field: str, value: Any) -> None:
    assert parse_overrides([written]) == {field: value}
    section = load("default", parse_overrides([written]))
    for part in field.split("."):
        section = getattr(section, part)
    assert section == value


def test_the_last_override_of_a_field_wins() -> None:
    assert parse_overrides(["seed=1", "seed=2"]) == {"seed": 2}


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ("train.rl=1", "unknown field 'train.rl' in the recipe; did you mean 'train.lr'?"),
        ("lr=1", "unknown field 'lr'"),
        ("train=1", "unknown field 'train'"),
        ("train.lr.x=1", "unknown field 'train.lr.x'"),
        ("=1", "unknown field ''"),
        ("train.lr=fast", "train.lr='fast'"),
        ("train.lr=[1]", "train.lr=[1]"),
        ("seed=1.5", "seed=1.5"),
        ("model.tied=3", "model.tied=3"),
    ],
)
def test_mistaken_overrides_are_told(written: str, named: str) -> None:
    assert named in _error("default", parse_overrides([written]))


def test_an_override_without_a_value_is_refused() -> None:
    with pytest.raises(UserError, match=r"--set train\.lr: write it as field=value"):
        parse_overrides(["train.lr"])


@given(st.text(max_size=20))
def test_no_override_gives_another_error(text: str) -> None:
    for written in (text, f"description={text}", f"train.lr={text}", f"data.sources={text}"):
        try:
            load("default", parse_overrides([written]))
        except UserError as error:
            assert not set("\n\r") & set(str(error)) or set("\n\r") & set(text)


# --- the fields, and writing ---


def test_every_field_is_known_by_its_dotted_name() -> None:
    def leaves(tree: dict[str, Any], prefix: str = "") -> list[str]:
        found: list[str] = []
        for name, value in tree.items():
            found += leaves(value, f"{prefix}{name}.") if isinstance(value, dict) and value else [prefix + name]
        return found

    assert known_fields() == leaves(Recipe().model_dump())


def test_recipes_do_not_share_their_sections() -> None:
    Recipe().data.sources.append("mine.txt")
    Recipe().train.lr = 1.0
    assert Recipe().data.sources == []
    assert Recipe().train.lr is None


_TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
_COUNTS = st.none() | st.integers(8, 2**40)
_RECIPES = st.fixed_dictionaries(
    {
        "name": _TEXTS,
        "description": _TEXTS,
        "seed": st.integers(0, 2**31 - 1),
        "budget": _TEXTS,
        "data": st.fixed_dictionaries({"sources": st.lists(_TEXTS), "limit_bytes": _COUNTS}),
        "model": st.fixed_dictionaries(
            {"family": _TEXTS, "width": _COUNTS, "context": _COUNTS, "tied": st.booleans()}
        ),
        "train": st.fixed_dictionaries(
            {
                "lr": st.none() | st.floats(1e-300, 1e300),
                "checkpoint_seconds": st.floats(1e-3, 1e9),
                "warmup": st.floats(0, 0.999),
                "schedule": st.sampled_from(["linear", "cosine", "trapezoid", "wsd", "constant"]),
            }
        ),
        "sample": st.fixed_dictionaries({"prompts": st.none() | st.lists(_TEXTS)}),
    }
)


@settings(deadline=None)
@given(_RECIPES)
def test_recipes_go_through_toml(tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any]) -> None:
    recipe = parse(tree, "here")
    assert parse(tomllib.loads(recipe.to_toml()), "there") == recipe
    file = tmp_path_factory.getbasetemp() / "written.toml"
    file.write_text(recipe.to_toml(), "utf-8")
    assert load(str(file)) == recipe
