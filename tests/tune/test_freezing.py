import pytest
from torch import nn

from groundup.errors import UserError
from groundup.tune.freezing import check_mode, freeze

from .conftest import MakeBody

EMBEDDINGS = ["embedding", "positions"]


@pytest.mark.parametrize(
    ("mode", "parts"),
    [
        ("none", []),
        ("embeddings", EMBEDDINGS),
        ("first:1", [*EMBEDDINGS, "blocks.0"]),
        ("first:2", [*EMBEDDINGS, "blocks.0", "blocks.1"]),
        ("all", [*EMBEDDINGS, "blocks", "norm"]),
    ],
)
def test_exactly_the_parts_that_are_named_are_frozen(mode: str, parts: list[str], make_body: MakeBody) -> None:
    body = make_body()
    assert freeze(body, mode) == parts
    for name, parameter in body.named_parameters():
        is_frozen = any(name.startswith(f"{part}.") for part in parts)
        assert parameter.requires_grad != is_frozen, name


def test_a_norm_between_embeddings_and_blocks_belongs_to_the_embeddings(make_body: MakeBody) -> None:
    assert freeze(make_body("bert"), "embeddings") == ["embedding", "positions", "segments", "embedding_norm"]


class _Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(nn.Linear(1, 1).weight.detach())
        self.words = nn.Embedding(5, 4)
        self.layers = nn.LSTM(4, 4)


def test_a_model_without_blocks_has_its_tables_frozen_or_all() -> None:
    assert freeze(_Recurrent(), "embeddings") == ["words"]
    model = _Recurrent()
    assert freeze(model, "all") == ["words", "layers"]
    assert not any(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(UserError, match="has 0 blocks; choose all, embeddings or none"):
        freeze(_Recurrent(), "first:1")
    with pytest.raises(UserError, match="no embeddings apart from the rest"):
        freeze(nn.Sequential(nn.Linear(2, 2)), "embeddings")


def test_more_blocks_than_there_are(make_body: MakeBody) -> None:
    with pytest.raises(UserError, match="--freeze first:3: the model has 2 blocks; choose at most first:2"):
        freeze(make_body(), "first:3")


@pytest.mark.parametrize("mode", ["embedings", "first:0", "first:x", "first:-1", "first:N", "first:", ""])
def test_unknown_modes(mode: str) -> None:
    with pytest.raises(UserError, match=f"--freeze {mode} is unknown"):
        check_mode(mode)
    with pytest.raises(UserError, match="did you mean 'embeddings'"):
        check_mode("embedings")
