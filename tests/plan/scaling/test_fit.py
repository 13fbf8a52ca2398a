from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from groundup.errors import UserError
from groundup.plan.scaling import fit
from groundup.plan.scaling.fit import fit_law, objective, residuals
from groundup.plan.scaling.laws import TiedLaw
from groundup.plan.scaling.repetition import MANY_EPOCHS, TOKENS_ONLY
from groundup.plan.scaling.runs import Runs, read_runs
from tests.plan.scaling.conftest import LAWS

MakeRuns = Callable[..., Runs]


@pytest.mark.parametrize("name", LAWS)
def test_the_law_behind_exact_runs_is_found(name: str, runs_of: MakeRuns) -> None:
    found = fit_law(runs_of(LAWS[name]), name)
    assert found.loss(1e9, 1e11) == pytest.approx(LAWS[name].loss(1e9, 1e11), rel=2e-3)
    assert found.size_exponent == pytest.approx(LAWS[name].size_exponent, rel=0.03)
    assert found.data_exponent == pytest.approx(LAWS[name].data_exponent, rel=0.03)


@pytest.mark.parametrize("name", LAWS)
def test_gradients_are_those_of_the_log_loss(name: str) -> None:
    log_loss = fit._kaplan if name == "kaplan" else fit._chinchilla
    sizes, tokens = np.array([-1.0, 0.3, 2.0]), np.array([0.5, -2.0, 1.0])
    constants = np.array([0.3, 0.1, -0.4, 0.35, 0.45])
    for run in range(len(sizes)):
        numeric = approx_fprime(constants, lambda point, at=run: log_loss(point, sizes, tokens)[0][at], 1e-7)
        assert log_loss(constants, sizes, tokens)[1][run] == pytest.approx(numeric, abs=1e-5)


def test_single_runs_that_went_wrong_count_little(runs_of: MakeRuns) -> None:
    runs = runs_of(LAWS["chinchilla"], noise=1e-4)
    losses = runs.losses.copy()
    losses[[3, 11, 20]] *= (1.3, 1.2, 1.4)
    found = fit_law(replace(runs, losses=losses), "chinchilla")
    assert found.loss(1e9, 1e11) == pytest.approx(LAWS["chinchilla"].loss(1e9, 1e11), rel=5e-3)


def test_the_objective_is_the_summed_huber_loss(runs_of: MakeRuns) -> None:
    from scipy.special import huber

    runs = runs_of(LAWS["tied"], noise=2e-3)
    assert objective(LAWS["tied"], runs) == pytest.approx(huber(1e-3, residuals(LAWS["tied"], runs)).sum())


def test_the_tied_form_has_one_exponent(runs_of: MakeRuns) -> None:
    found = fit_law(runs_of(LAWS["chinchilla"]), "tied")
    assert isinstance(found, TiedLaw)
    assert found.size_exponent == found.data_exponent


@pytest.mark.parametrize("repetition", [TOKENS_ONLY, MANY_EPOCHS])
def test_repeated_text_is_allowed_for(repetition: object, runs_of: MakeRuns) -> None:
    fresh = runs_of(LAWS["tied"])
    law = replace(LAWS["tied"], repetition=repetition)
    unique = np.full(len(fresh), 2e8)
    rows = zip(fresh.parameters, fresh.tokens, unique, strict=True)
    runs = replace(fresh, unique_tokens=unique, losses=np.array([law.loss(*row) for row in rows]))
    assert (runs.tokens > unique).sum() > 5
    found = fit_law(runs, "tied", repetition=repetition)  # type: ignore[arg-type]
    assert found.loss(1e9, 1e11) == pytest.approx(law.loss(1e9, 1e11), rel=3e-3)
    assert abs(residuals(found, runs)).max() < 1e-3


def test_too_few_runs_are_refused(runs_of: MakeRuns) -> None:
    with pytest.raises(UserError, match="4 runs are too few for the form 'tied' with 4 constants; give 5 or more"):
        fit_law(runs_of(LAWS["tied"]).take(np.arange(4)), "tied")


@pytest.mark.shared
def test_the_tied_form_predicts_larger_models_where_free_exponents_do_not(shared_data: Path) -> None:
    """Fitted to models of up to 154M parameters of Gadre et al., for those of 412M: bias over all lengths."""
    for dataset in ("c4_original", "rpj", "rw_original"):
        runs = read_runs(shared_data / "scaling" / "gadre_small.csv", "c4_val", {"ds": dataset})
        largest = runs.parameters == runs.parameters.max()
        bias = {
            name: residuals(fit_law(runs.take(~largest), name), runs.take(largest)).mean()
            for name in ("tied", "chinchilla")
        }
        assert abs(bias["tied"]) < 0.012
        assert abs(bias["chinchilla"]) > 0.02
