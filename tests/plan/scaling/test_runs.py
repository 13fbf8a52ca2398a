import json
from pathlib import Path

import pytest

from groundup.errors import UserError
from groundup.plan.scaling.runs import read_runs

ROWS = [{"parameters": 1e6, "tokens": 2e7, "bits_per_byte": 1.5, "loss": 3.1, "set": "a"}]
ROWS += [{"parameters": 2e6, "tokens": 4e7, "bits_per_byte": 1.4, "loss": 3.0, "set": "b"}]


def written(path: Path, rows: list[dict[str, object]]) -> Path:
    if path.suffix == ".csv":
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    else:
        lines = [json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("name", ["runs.csv", "runs.jsonl"])
def test_a_table_is_read(name: str, tmp_path: Path) -> None:
    runs = read_runs(written(tmp_path / name, ROWS))
    assert runs.parameters.tolist() == [1e6, 2e6]
    assert runs.losses.tolist() == [1.5, 1.4]
    assert runs.unit == "bits per byte"
    assert runs.compute.tolist() == [6 * 2e13, 6 * 8e13]
    other = read_runs(tmp_path / name, "loss", {"set": "b"})
    assert (other.losses.tolist(), other.unit) == ([3.0], "nats per token")


def test_a_sweeps_folder_is_its_table(tmp_path: Path) -> None:
    written(tmp_path / "runs.jsonl", ROWS)
    assert len(read_runs(tmp_path)) == 2


def test_tokens_follow_from_flops(tmp_path: Path) -> None:
    """As in the file of Besiroglu et al., whose columns are named so."""
    rows: list[dict[str, object]] = [{"Model Size": 1e9, "Training FLOP": 6e19, "loss": 2.5}]
    assert read_runs(written(tmp_path / "points.csv", rows)).tokens.tolist() == [1e10]


@pytest.mark.parametrize(
    ("rows", "options", "expected"),
    [
        (ROWS, {"loss_column": "bits_per_bite"}, "did you mean 'bits_per_byte'"),
        (ROWS, {"where": {"sett": "a"}}, "did you mean 'set'"),
        (ROWS, {"where": {"set": "c"}}, "no rows with these values"),
        ([{"tokens": 1, "loss": 2}], {}, "no column for model sizes"),
        ([{"parameters": 1, "loss": 2}], {}, "no column for training tokens"),
        ([{"parameters": 1, "tokens": 2}], {}, "no column for loss"),
        ([{"parameters": 1, "tokens": -2, "loss": 2}], {}, "row 1: tokens="),
        (
            [{"parameters": "many", "tokens": 2, "loss": 2}],
            {},
            "row 1: parameters='many' is not a positive number",
        ),
        ([{"parameters": 1, "tokens": 2, "loss": "nan"}], {}, "row 1: loss="),
    ],
)
@pytest.mark.parametrize("name", ["runs.csv", "runs.jsonl"])
def test_a_bad_table_is_refused_in_one_line(
    rows: list[dict[str, object]], options: dict[str, object], expected: str, name: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=expected) as error:
        read_runs(written(tmp_path / name, rows), **options)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text("{not json\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "list.jsonl").write_text("[1]\n")
    for name, expected in {"broken": "cannot be read", "empty": "no rows", "list": "not a table"}.items():
        (file,) = tmp_path.glob(f"{name}.*")
        with pytest.raises(UserError, match=expected):
            read_runs(file)
    with pytest.raises(UserError, match="there is no"):
        read_runs(tmp_path / "nowhere.csv")
