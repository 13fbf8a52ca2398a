import math
from pathlib import Path

import pytest

from groundup.studio.summary import summary

from . import fake_run

TEXTS = {"": ["one", "two"], "The ": ["three"]}


def test_a_finished_run_is_compared_with_its_plan(tmp_path: Path):
    run = fake_run.finished_run(tmp_path / "run", TEXTS, steps=80)
    facts = summary(run)
    plan, outcome = run.read_json(run.plan_file), run.read_json(run.outcome_file)
    rows = {row["field"]: row for row in facts["comparison"]}
    assert rows["peak_bytes"]["miss"] == pytest.approx(outcome["peak_bytes"] / plan["peak_bytes"] - 1)
    assert rows["bits_per_byte"]["range"] == [
        pytest.approx(100 * (plan[f"bits_per_byte_{bound}"] / plan["bits_per_byte"] - 0.5), abs=0.01)
        for bound in ("low", "high")
    ]
    assert facts["share_done"] == 1.0
    assert sum(stage["share"] for stage in facts["stages"]) == pytest.approx(1)
    assert sum(row["parameters"] for row in facts["ledger"]) == plan["parameters"]
    assert sum(group["parameters"] for group in facts["ledger_groups"]) == plan["parameters"]


@pytest.mark.parametrize(("shift", "verdict"), [(-0.5, "above"), (0.0, "within"), (0.5, "below")])
def test_the_verdict_names_the_side_of_a_miss(tmp_path: Path, shift: float, verdict: str):
    run = fake_run.finished_run(tmp_path / "run", TEXTS, steps=80)
    plan, outcome = run.read_json(run.plan_file), run.read_json(run.outcome_file)
    centre = outcome["bits_per_byte"] + shift
    run.save_plan(plan | {"bits_per_byte_low": centre - 0.1, "bits_per_byte_high": centre + 0.1})
    assert summary(run)["verdict"] == verdict


def test_an_unfinished_run_is_measured_by_its_last_rows(tmp_path: Path):
    run = fake_run.new_run(tmp_path / "run")
    plan = fake_run.add_plan(run, steps=80)
    rows = fake_run.add_metrics(run, steps=33, planned=80)
    facts = summary(run)
    train = [row for row in rows if "loss" in row][-1]
    validation = [row for row in rows if "val_loss" in row][-1]
    measured = facts["measured"]
    assert (measured["steps"], measured["tokens"]) == (33, train["tokens"])
    assert measured["tokens_per_second"] == pytest.approx(train["tokens"] / train["seconds"])
    assert measured["flops"] == pytest.approx(plan["flops"] * 33 / 80)
    assert measured["perplexity"] == pytest.approx(math.exp(validation["val_loss"]))
    assert measured["bytes_per_token"] == pytest.approx(fake_run.BYTES_PER_TOKEN)
    assert facts["share_done"] == pytest.approx(train["seconds"] / plan["train_seconds"])
    misses = {row["field"]: row["miss"] for row in facts["comparison"]}
    assert misses.pop("tokens_per_second") is not None
    assert set(misses.values()) == {None}
    assert facts["verdict"] is None


def test_progress_without_a_time_budget_is_in_steps(tmp_path: Path):
    run = fake_run.new_run(tmp_path / "run")
    plan = fake_run.add_plan(run, steps=80)
    run.save_plan(plan | {"budget": {"kind": "tokens", "amount": plan["tokens"], "text": "655ktok"}})
    fake_run.add_metrics(run, steps=20, planned=80)
    assert summary(run)["share_done"] == 0.25


def test_what_was_read_does_not_depend_on_how_many_answers_were_asked_for(tmp_path: Path):
    run = fake_run.new_run(tmp_path / "run")
    plan = fake_run.add_plan(run, steps=80)
    # A masked model: its metrics count an eighth of the positions.
    run.save_plan(
        plan | {"row_tokens": 8 * fake_run.STEP_TOKENS // 32, "tokens": 8 * plan["tokens"], "ledger": []}
    )
    fake_run.add_metrics(run, steps=20, planned=80)
    facts = summary(run)
    assert facts["measured"]["tokens"] == 8 * 20 * fake_run.STEP_TOKENS
    assert facts["measured"]["flops"] == pytest.approx(plan["flops"] / 4)


def test_nats_become_bits_per_byte(tmp_path: Path):
    run = fake_run.finished_run(tmp_path / "run", TEXTS, steps=80)
    outcome = run.read_json(run.outcome_file)
    assert outcome["loss"] * summary(run)["bits_per_byte_per_nat"] == pytest.approx(outcome["bits_per_byte"])


def test_clipped_steps_are_counted(tmp_path: Path):
    run = fake_run.new_run(tmp_path / "run")
    rows = fake_run.add_metrics(run, steps=400, planned=400)
    norms = [row["grad_norm"] for row in rows if "loss" in row]
    assert summary(run)["clipped_share"] == pytest.approx(sum(norm > 1.0 for norm in norms) / 400)


def test_samples_are_grouped_by_step_and_spread_over_the_run(tmp_path: Path):
    run = fake_run.new_run(tmp_path / "run")
    fake_run.add_plan(run, steps=90)
    rows = fake_run.add_metrics(run, steps=90, planned=90, validations=30)
    fake_run.add_samples(run, rows, TEXTS)
    samples = summary(run)["samples"]
    validations = {row["step"]: row for row in rows if "val_loss" in row}
    assert samples["num_steps"] == 30
    shown = [step["step"] for step in samples["steps"]]
    assert len(shown) == 12
    assert (shown[0], shown[-1]) == (3, 90)
    assert shown == sorted(set(shown))
    for step in samples["steps"]:
        assert step["texts"] == {"": "one" if step["step"] == 3 else "two", "The ": "three"}
        assert step["bits_per_byte"] == validations[step["step"]]["val_bits_per_byte"]


def test_a_step_that_was_sampled_twice_is_shown_once(tmp_path: Path):
    run = fake_run.new_run(tmp_path / "run")
    place = {"step": 6, "tokens": 3072, "prompt": "The "}
    fake_run.write_rows(run.samples_file, [place | {"text": "old"}, place | {"text": "new"}])
    samples = summary(run)["samples"]
    assert [step["texts"] for step in samples["steps"]] == [{"The ": "new"}]
