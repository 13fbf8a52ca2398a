import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.errors import UserError
from groundup.plan.budget import Budget, parse_budget


@pytest.mark.parametrize(
    ("text", "kind", "amount"),
    [
        ("90s", "seconds", 90),
        ("10m", "seconds", 600),
        ("1.5h", "seconds", 5400),
        ("2d", "seconds", 172_800),
        ("1h30m", "seconds", 5400),
        (" 1 h 30 min ", "seconds", 5400),
        ("2 Hours", "seconds", 7200),
        ("$500", "usd", 500),
        (" $ 12.50 ", "usd", 12.5),
        ("500$", "usd", 500),
        ("500usd", "usd", 500),
        ("5 USD", "usd", 5),
        ("1e3 dollars", "usd", 1000),
        ("5e15flop", "flops", 5e15),
        ("5E+15 FLOPs", "flops", 5e15),
        ("7tok", "tokens", 7),
        ("200ktok", "tokens", 200_000),
        ("50Mtok", "tokens", 50_000_000),
        ("1.5Btok", "tokens", 1_500_000_000),
        ("2Ttok", "tokens", 2e12),
        ("1000 tokens", "tokens", 1000),
        ("500steps", "steps", 500),
        ("1step", "steps", 1),
    ],
)
def test_every_unit(text: str, kind: str, amount: float) -> None:
    assert parse_budget(text) == Budget(kind, amount)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "10",
            "m",
            "ten minutes",
            "10x",
            "10M",
            "-5m",
            "+5m",
            "0s",
            "0steps",
            "0.0tok",
            "10m!",
            "10m,5s",
        ),
        *("1h5tok", "5steps 3s", "1.2.3s", ".s", "1e400s", "1e308d", "nans", "infs", "1e5", "10m 5", "5 e15flop"),
        *("１０m", "10m\n-", "h30m", "1e3.5s"),
    ],
)
def test_all_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UserError, match="is not understood; write time") as error:
        parse_budget(text)
    if "\n" not in text:
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["$", "$$5", "$5h", "$-5", "$0", "$5$", "usd", "$1h30", "$5 00", "5k$", "US$5"])
def test_no_amount_of_money_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"is not understood; write time .* money \(\$500\)"):
        parse_budget(text)


@pytest.mark.parametrize(
    "text", ["500eur", "EUR 500", "500 euros", "€500", "£20", "20GBP", "¥9000", "100 元", "5 chf"]
)
def test_other_currencies_are_named_as_such(text: str) -> None:
    with pytest.raises(UserError, match="is not in US dollars") as error:
        parse_budget(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("text", "unit"), [("0.5steps", "step"), ("0.9tok", "token"), ("0.0001ktok", "token")])
def test_less_than_one_is_refused(text: str, unit: str) -> None:
    with pytest.raises(UserError, match=f"less than one {unit}; give more"):
        parse_budget(text)


@given(st.integers(0, 99), st.integers(0, 99), st.integers(1, 99))
def test_times_add_up(hours: int, minutes: int, seconds: int) -> None:
    budget = parse_budget(f"{hours}h{minutes}m{seconds}s")
    assert budget == Budget("seconds", 3600 * hours + 60 * minutes + seconds)
    assert parse_budget(f"{seconds}s {minutes}m {hours}h") == budget


@given(st.floats(1, 1e300))
def test_any_number_that_python_prints(amount: float) -> None:
    assert parse_budget(f"{amount!r}flop") == Budget("flops", amount)


@given(st.text())
def test_no_text_gives_another_error(text: str) -> None:
    try:
        budget = parse_budget(text)
    except UserError:
        return
    assert 0 < budget.amount < float("inf")
