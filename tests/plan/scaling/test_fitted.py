import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from groundup.errors import UserError
from groundup.plan.scaling.fit import fit_law
from groundup.plan.scaling.fitted import Cost, FittedLaw, Uncertainty, find_law, fit_runs, load_law
from groundup.plan.scaling.intervals import contest, drift_of, hold_out, leave_one_out, noise_of, resampled_laws
from groundup.plan.scaling.runs import Runs, read_runs
from tests.plan.scaling.conftest import LAWS

MakeRuns = Callable[..., Runs]
NOISE = 0.01


@pytest.mark.parametrize("name", ["chinchilla", "kaplan"])
def test_the_form_behind_the_runs_is_chosen(name: str, runs_of: MakeRuns) -> None:
    assert fit_runs(runs_of(LAWS[name], noise=1e-3)).fitted.law.form == name


def test_tied_is_taken_unless_another_is_clearly_better(runs_of: MakeRuns) -> None:
    held = contest(runs_of(LAWS["tied"], noise=NOISE))
    assert held.best.form == "tied"
    slightly = held._replace(beyond={"tied": 0.010, "chinchilla": 0.009, "kaplan": 0.2})
    clearly = held._replace(beyond={"tied": 0.010, "chinchilla": 0.007, "kaplan": 0.2})
    assert (slightly.best.form, clearly.best.form) == ("tied", "chinchilla")


def test_intervals_hold_the_truth_as_often_as_they_say(runs_of: MakeRuns) -> None:
    """New runs with 6 times the computation of any that was fitted, and the same noise: nine of ten or more."""
    law, generator = LAWS["tied"], np.random.default_rng(0)
    inside = []
    for seed in range(8):
        fitted = fit_runs(runs_of(law, noise=NOISE, sizes=4, lengths=3, seed=seed), "tied").fitted
        found = fitted.predict(2.5e8, 5e9)
        outcomes = law.loss(2.5e8, 5e9) * np.exp(generator.normal(0.0, NOISE, 50))
        inside.append(np.mean((outcomes > found.low) & (outcomes < found.high)))
        assert found.low < found.loss < found.high
        assert found.high / found.low < 1.25
    assert np.mean(inside) >= 0.9


def test_the_bootstrap_spreads_as_independent_runs_do(runs_of: MakeRuns) -> None:
    law = LAWS["tied"]
    anew = [fit_law(runs_of(law, noise=NOISE, seed=seed), "tied").size_exponent for seed in range(25)]
    runs = runs_of(law, noise=NOISE, seed=100)
    again = [other.size_exponent for other in resampled_laws(runs, fit_law(runs, "tied"), count=60)]
    assert 0.5 < np.std(again) / np.std(anew) < 2.0


def test_noise_and_left_out_errors_are_those_of_the_runs(runs_of: MakeRuns) -> None:
    runs = runs_of(LAWS["tied"], noise=NOISE, sizes=8, lengths=8)
    law = fit_law(runs, "tied")
    assert noise_of(runs, law) == pytest.approx(NOISE, rel=0.3)
    assert np.sqrt(np.mean(leave_one_out(runs, law) ** 2)) == pytest.approx(NOISE, rel=0.3)


def test_drift_shows_a_form_that_extrapolates_badly(runs_of: MakeRuns) -> None:
    runs = runs_of(LAWS["kaplan"])
    wrong, right = fit_law(runs, "tied"), fit_law(runs, "kaplan")
    assert drift_of(hold_out(runs, wrong), 1e-3) > 10 * drift_of(hold_out(runs, right), 1e-3)
    assert all(miss.factor > 0 for miss in hold_out(runs, wrong))


def test_further_away_is_less_certain(runs_of: MakeRuns) -> None:
    fitted = fit_runs(runs_of(LAWS["tied"], noise=NOISE), "tied").fitted
    near, far = fitted.predict(1e8, 2e9), fitted.predict(1e10, 2e11)
    assert far.high / far.low > near.high / near.low


def test_a_law_survives_its_file(runs_of: MakeRuns, tmp_path: Path) -> None:
    fitted = fit_runs(runs_of(LAWS["tied"], noise=NOISE), "tied", origin="test").fitted
    fitted.save(tmp_path / "law.json")
    assert load_law(tmp_path / "law.json").predict(1e9, 1e11) == fitted.predict(1e9, 1e11)
    assert json.loads((tmp_path / "law.json").read_text())["law"]["unit"] == "nats per token"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"law": {}, "uncertainty": {}}', '{"law": 3}'])
def test_what_is_no_law_is_refused_in_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "law.json").write_text(content)
    with pytest.raises(UserError, match=r"law\.json is not a law") as error:
        load_law(tmp_path / "law.json")
    assert "\n" not in str(error.value)


def test_a_published_law_has_a_wide_interval() -> None:
    found = find_law("besiroglu").predict(1e9, 2e10)
    assert found.high / found.loss > 1.1
    with pytest.raises(UserError, match="neither a file nor a published one"):
        find_law("chinchila")
    with pytest.raises(UserError, match="there is no law in"):
        find_law("nowhere.json")


def test_what_a_token_costs_is_found(runs_of: MakeRuns) -> None:
    """FLOPs 6 N + 50 N^0.6 and 1e-6 s + 1e-12 s a FLOP, a token."""
    runs = runs_of(LAWS["tied"])
    a_token = 6 * runs.parameters + 50 * runs.parameters**0.6
    runs = replace(runs, flops=a_token * runs.tokens, seconds=(1e-6 + 1e-12 * a_token) * runs.tokens)
    cost = fit_runs(runs, "tied").fitted.cost
    assert cost.flops_per_token(3e7) == pytest.approx(6 * 3e7 + 50 * 3e7**0.6)
    assert cost.seconds_per_token(3e7) == pytest.approx(1e-6 + 1e-12 * (6 * 3e7 + 50 * 3e7**0.6))
    with pytest.raises(UserError, match="knows no machine's speed"):
        Cost().seconds_per_token(1e6)


def test_the_best_size_counts_what_small_models_spend_beside(runs_of: MakeRuns) -> None:
    law = LAWS["tied"]
    known = Uncertainty(0.01, 0.0, 1.7, 1e18)
    plain, dear = FittedLaw(law, known), FittedLaw(law, known, Cost(5e4, 0.4, 0.0, 1e-12))
    best = dear.best_for_flops(1e16)
    assert dear.cost.flops_per_token(best.parameters) * best.tokens == pytest.approx(1e16)
    assert best.parameters > plain.best_for_flops(1e16).parameters
    for factor in (0.8, 1.25):
        size = factor * best.parameters
        assert law.loss(size, 1e16 / dear.cost.flops_per_token(size)) > best.loss
    assert dear.best_for_seconds(1e4) == pytest.approx(best)


@pytest.mark.shared
def test_held_out_larger_models_are_covered(shared_data: Path) -> None:
    """Fitted to models of up to 154M parameters of Gadre et al.; those of 412M have up to 7 times the FLOPs."""
    for dataset in ("c4_original", "rpj", "rw_original"):
        runs = read_runs(shared_data / "scaling" / "gadre_small.csv", "c4_val", {"ds": dataset})
        largest = runs.parameters == runs.parameters.max()
        fitted = fit_runs(runs.take(~largest), "tied").fitted
        unseen = runs.take(largest)
        found = [fitted.predict(*run) for run in zip(unseen.parameters, unseen.tokens, strict=True)]
        losses = unseen.losses
        covered = [each.low < loss < each.high for each, loss in zip(found, losses, strict=True)]
        assert np.mean(covered) >= 0.85
        assert np.median([abs(each.loss / loss - 1) for each, loss in zip(found, losses, strict=True)]) < 0.02
