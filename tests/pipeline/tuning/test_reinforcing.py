"""The stages that learn from answers of their own, in this process: that they learn, hold little, and refuse."""

import io
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors import safe_open

from groundup.errors import UserError
from groundup.model import folder as model_folder
from groundup.model.lora import add_adapters
from groundup.model.registry import build
from groundup.model.reward import RewardModel
from groundup.objective.base import IGNORED
from groundup.pipeline.display import Display
from groundup.pipeline.tuning.reject import sample_only
from groundup.pipeline.tuning.run import resume_tuning, tune
from groundup.recipe import Recipe, load
from groundup.run import Run, read_rows
from groundup.shape import Shape
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.templates import with_template
from groundup.tune.reward_folder import save_reward

Stage = Callable[..., dict[str, Any]]
# How many lower-case letters: a random model over bytes writes about one among eight.
LETTERS = "def reward(prompt, completion):\n    return sum('a' <= c <= 'z' for c in completion)\n"


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random chat model, prompts and a rule."""
    folder = tmp_path_factory.mktemp("start")
    tokenizer = with_template(Tokenizer.train(["a"], vocabulary_size=257), "chatml")
    shape = Shape(
        family="qwen3", num_layers=2, width=64, num_heads=4, num_kv_heads=2, head_width=16, feedforward_width=128,
        vocabulary_size=tokenizer.vocabulary_size, context=64, tied=True,
    )  # fmt: skip
    model_folder.save(folder / "model", build(shape, seed=1), tokenizer, "card", {})
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": f"say {i}"}) + "\n" for i in range(60)))
    (folder / "letters.py").write_text(LETTERS)
    return folder


def recipe_of(start: Path, name: str, **fields: Any) -> Recipe:
    given = {
        "model": str(start / "model"),
        "data": [str(start / "prompts.jsonl")],
        "tokens": 8,
        "missing_end": 0.0,
    }
    given |= {"reward": str(start / "letters.py"), "holdout": 0.4, "lr": 1e-2} | fields
    overrides = {f"{name}.{field}": value for field, value in given.items()}
    return load("default", overrides | {"stage": name, "train.threads": 1, "train.validations": 2})


@pytest.fixture
def run_stage(start: Path, tmp_path: Path) -> Stage:
    def run(name: str, folder: str = "run", **fields: Any) -> dict[str, Any]:
        display = Display(Console(file=io.StringIO()))
        return tune(recipe_of(start, name, **fields), tmp_path / folder, display)

    return run


def rounds(tmp_path: Path, folder: str = "run") -> list[dict[str, Any]]:
    return list(read_rows(tmp_path / folder / "rounds.jsonl"))


@pytest.mark.parametrize(
    ("stage", "fields", "gain"),
    [
        ("ppo", {"rounds": 5, "updates": 2}, 2.0),
        ("grpo", {"rounds": 6, "updates": 2}, 2.0),
        ("reject", {"rounds": 3, "best_of": 8, "answers": 256, "epochs": 4.0}, 1.0),
    ],
)
def test_the_reward_of_held_out_prompts_rises(
    stage: str, fields: dict[str, Any], gain: float, run_stage: Stage, tmp_path: Path
) -> None:
    outcome = run_stage(stage, **fields)
    assert outcome["gain"] > gain
    assert 0 < outcome["after"]["kl"] < 20
    assert outcome["before"]["kl"] == pytest.approx(0, abs=1e-5)
    found = rounds(tmp_path)
    assert [row["round"] for row in found] == list(range(outcome["rounds"]))
    assert found[-1]["reward"] > found[0]["reward"]
    assert found[0]["kl"] == pytest.approx(0, abs=1e-5)
    measured = list(read_rows(tmp_path / "run" / "heldout.jsonl"))
    assert (measured[0], measured[-1]) == (outcome["before"], outcome["after"])
    assert len(list(read_rows(tmp_path / "run" / "samples.jsonl"))) == 2 * len(measured)
    assert "Reward against distance" in (tmp_path / "run" / "rounds.html").read_text("utf-8")


SHORT = {"rounds": 3, "answers": 16, "updates": 2, "batch_size": 8}


def test_the_first_step_of_a_round_finds_the_chances_that_it_was_written_with(
    run_stage: Stage, tmp_path: Path
) -> None:
    for stage in ("ppo", "grpo"):
        run_stage(stage, folder=stage, **SHORT)
        steps = [row for row in read_rows(tmp_path / stage / "metrics.jsonl") if "ratio_error" in row]
        assert len(steps) == 12
        assert all(row["ratio_error"] < 1e-5 for row in steps[::4])
        assert all(row["ratio_error"] > 1e-3 for row in steps[1::4])


def test_a_dear_reference_keeps_the_policy_near(run_stage: Stage) -> None:
    near, far = (run_stage("grpo", folder=str(kl), **SHORT, kl=kl)["after"]["kl"] for kl in (3.0, 0.0))
    assert near < 0.5 * far


def test_beta_is_steered_by_the_rounds_before(run_stage: Stage, tmp_path: Path) -> None:
    """Ziegler et al. 2019: a fifth at most in a horizon; here the horizon is one round."""
    run_stage("grpo", **SHORT, kl=0.5, kl_target=0.2, kl_horizon=16.0)
    found = rounds(tmp_path)
    expected = 0.5
    for before, after in pairwise(found):
        expected *= 1 + max(-0.2, min(0.2, before["kl"] / 0.2 - 1))
        assert after["beta"] == pytest.approx(expected)
    assert found[0]["beta"] == 0.5


def test_a_run_ends_where_it_is_too_far_from_the_reference(run_stage: Stage, tmp_path: Path) -> None:
    outcome = run_stage("ppo", **SHORT | {"rounds": 20}, kl=0.0, kl_limit=0.3)
    found = rounds(tmp_path)
    assert [row["kl"] > 0.3 for row in found] == [False] * (len(found) - 1) + [True]
    assert len(found) < 20
    assert f"ended in round {len(found)}" in outcome["note"]
    # Nothing was learnt from the last round's answers.
    assert outcome["rounds"] == len(found) - 1
    assert outcome["steps"] == 4 * (len(found) - 1)


def test_policy_reference_reward_and_value_share_what_is_equal(
    start: Path, run_stage: Stage, tmp_path: Path
) -> None:
    """With a judge made of adapters on the policy's own start: less than 2.2 policies; with adapters about one."""
    loaded = model_folder.load(start / "model")
    add_adapters(loaded.model, rank=2, alpha=4.0, targets="attention", dropout=0.0, seed=1)
    save_reward(tmp_path / "judge", RewardModel(loaded.model), loaded.tokenizer, {}, base=str(start / "model"))
    short = {**SHORT, "rounds": 1, "reward": str(tmp_path / "judge")}
    whole = run_stage("ppo", folder="whole", **short)["memory"]
    assert whole["reference_bytes"] == whole["policy_bytes"]
    assert 2.0 < whole["ratio"] < 2.2
    adapters = run_stage("ppo", folder="adapters", **short, lora=2)["memory"]
    assert adapters["reference_bytes"] == 0
    assert 1.0 < adapters["ratio"] < 1.1
    own = run_stage("ppo", folder="own", **short, share_trunk=False)["memory"]
    assert own["value_bytes"] > 0.9 * own["policy_bytes"]


def test_adapters_alone_learn_and_are_saved(run_stage: Stage, start: Path, tmp_path: Path) -> None:
    outcome = run_stage("grpo", **SHORT, lora=2)
    assert outcome["trained_parameters"] < 0.1 * outcome["parameters"]
    assert (tmp_path / "run" / "model" / "adapter_model.safetensors").is_file()
    merged, before = model_folder.load(tmp_path / "run"), model_folder.load(start / "model")
    ids = torch.arange(20)[None]
    with torch.no_grad():
        assert not torch.allclose(merged.model(ids), before.model(ids), atol=1e-3)


def test_the_best_answers_can_be_written_without_learning(start: Path, tmp_path: Path) -> None:
    display = Display(Console(file=io.StringIO()))
    recipe, file = recipe_of(start, "reject", answers=40, best_of=4), tmp_path / "best.jsonl"
    figures = sample_only(recipe, file, display)
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert len(rows) == figures["prompts"] == 10
    assert [message["role"] for message in rows[0]["messages"]] == ["user", "assistant"]
    assert figures["reward"] == pytest.approx(sum(row["reward"] for row in rows) / 10)
    assert (
        figures["reward"]
        > sample_only(recipe_of(start, "reject", answers=10, best_of=1), tmp_path / "any.jsonl", display)["reward"]
    )
    assert not (tmp_path / "recipe.toml").exists()
    with pytest.raises(UserError, match="exists already"):
        sample_only(recipe, file, display)
    with pytest.raises(UserError, match=r"there is no folder .*missing for best\.jsonl"):
        sample_only(recipe, tmp_path / "missing" / "best.jsonl", display)


def test_a_judge_that_fails_loses_nothing(run_stage: Stage, start: Path, tmp_path: Path) -> None:
    """It fails in the second round; mended, the run goes on from there to the end that it would have come to."""
    rule, broken = (
        tmp_path / "rule.py",
        LETTERS.replace("return", "1 / (len(calls.append(1) or calls) != 45); return"),
    )
    fields = {**SHORT, "reward": str(rule)}
    rule.write_text("calls = []\n" + broken)
    with pytest.raises(UserError, match=r"prompts\.jsonl.*ZeroDivisionError.*--resume"):
        run_stage("grpo", **fields)
    rule.write_text(LETTERS)
    resume_tuning(Run.open(tmp_path / "run"), Display(Console(file=io.StringIO())))
    run_stage("grpo", folder="whole", **fields)
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("run", "whole")]
    assert weights[0] == weights[1]
    assert len(rounds(tmp_path)) == 3


def test_answers_are_kept_where_the_judge_fails_before_anything_is_learnt(
    run_stage: Stage, tmp_path: Path
) -> None:
    rule = tmp_path / "rule.py"
    rule.write_text("def reward(prompt, completion):\n    return 1 / 0\n")
    with pytest.raises(UserError, match=r"ZeroDivisionError.*--resume"):
        run_stage("reject", rounds=1, answers=8, best_of=4, reward=str(rule))
    rule.write_text(LETTERS)
    # A checkpoint that is just being taken away does not hinder the rounds.
    (tmp_path / "run" / "checkpoints" / "step-1").mkdir(parents=True)
    outcome = resume_tuning(Run.open(tmp_path / "run"), Display(Console(file=io.StringIO())))
    assert outcome["rounds"] == 1


@pytest.mark.parametrize("stage", ["ppo", "grpo"])
def test_stages_that_go_by_rounds_have_no_epochs(stage: str, start: Path) -> None:
    with pytest.raises(UserError, match="epochs"):
        recipe_of(start, stage, epochs=2.0)


def test_the_critic_begins_with_what_is_learnt_from(run_stage: Stage, tmp_path: Path) -> None:
    """Not with the judge's scores, from which an answer without an end loses much."""
    far = {**SHORT, "rounds": 1, "missing_end": 100.0, "kl": 0.0, "gae_lambda": 1.0, "lr": 1e-6}
    run_stage("ppo", **far)
    with safe_open(tmp_path / "run" / "rollouts" / "round-0.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in ("targets", "old_values_BT", "returns_BT")}
    answers_NT = tensors["targets"] != IGNORED
    values, returns_NT = tensors["old_values_BT"][answers_NT], tensors["returns_BT"]
    # Without a price, and with lambda 1, each token's return is its answer's reward.
    rewards_N = (returns_NT * answers_NT).sum(1) / answers_NT.sum(1)
    assert values.unique().tolist() == pytest.approx([float(rewards_N.mean())], rel=1e-4)
    assert float(rewards_N.mean()) < -50
    run_stage("ppo", folder="whitened", **far, whiten_rewards=True)
    with safe_open(tmp_path / "whitened" / "rollouts" / "round-0.safetensors", "pt") as file:
        assert not file.get_tensor("old_values_BT").any()


def test_a_judge_no_better_than_chance_is_warned_of(start: Path, run_stage: Stage, tmp_path: Path) -> None:
    loaded = model_folder.load(start / "model")
    for name, low in (("poor", 0.48), ("good", 0.6)):
        save_reward(tmp_path / name, RewardModel(loaded.model), loaded.tokenizer, {"accuracy_low": low})
        run_stage("reject", folder=f"by-{name}", rounds=1, answers=8, best_of=4, reward=str(tmp_path / name))
    said = [(tmp_path / f"by-{name}" / "log.txt").read_text("utf-8") for name in ("poor", "good")]
    assert ["not surely better than chance (accuracy from 48.0%)" in log for log in said] == [True, False]


@pytest.mark.parametrize(
    ("stage", "fields", "message"),
    [
        ("ppo", {"kl": 0.0, "kl_target": 6.0}, "kl=0 cannot be steered"),
        ("grpo", {"kl": 0.0, "kl_target": 6.0}, "kl=0 cannot be steered"),
        ("ppo", {"answers": 20, "batch_size": 16}, "batch_size=16 does not divide the 20 answers.*such as 4"),
        ("grpo", {"answers": 20, "group": 8}, "answers=20 of a round are no multiple of group=8.*answers=16"),
        ("reject", {"answers": 20, "best_of": 8}, "no multiple of best_of=8"),
        ("grpo", {"advantages": "grp"}, "did you mean 'grpo'"),
        ("grpo", {"loss": "dapoo"}, "did you mean 'dapo'"),
        ("ppo", {"lora": 2, "lora_dropout": 0.1}, "lora_dropout=0.1"),
        ("ppo", {"tokens": 63}, "no prompt leaves room for an answer"),
        ("ppo", {"reward": "nobody"}, "no reward 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_refused_and_leaves_nothing(
    stage: str, fields: dict[str, Any], message: str, run_stage: Stage, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as error:
        run_stage(stage, **fields)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_other_prompts_than_the_run_began_with_are_refused(start: Path, run_stage: Stage, tmp_path: Path) -> None:
    """Rounds are stretches of one order of the prompts."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text((start / "prompts.jsonl").read_text())
    run_stage("grpo", data=[str(prompts)], rounds=1, answers=16, batch_size=8)
    (tmp_path / "run" / "outcome.json").unlink()
    with prompts.open("a") as file:
        file.write(json.dumps({"prompt": "say more"}) + "\n")
    with pytest.raises(UserError, match="has changed since it began"):
        resume_tuning(Run.open(tmp_path / "run"), Display(Console(file=io.StringIO())))
