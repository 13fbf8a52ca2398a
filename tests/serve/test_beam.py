"""Beam search against all targets that there are, on models small enough to list them."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from groundup.model.registry import build_any
from groundup.model.translator import Translator
from groundup.serve.beam import Search, beam_search
from groundup.shape import Shape

BEGIN, END, VOCABULARY, LONGEST = 0, 1, 4, 4


class _State(NamedTuple):
    source_N: Tensor


class _Table(Translator):
    """The next token depends on the one before and on the source's first, by a table (V, V, V)."""

    def __init__(self, logits: Tensor):
        super().__init__(_shape())
        self.table = torch.nn.Parameter(logits)

    def encode(self, source_BS: Tensor, keep_BS: Tensor | None = None) -> Tensor:
        return source_BS[:, 0]

    def logits(self, source_BS: Tensor, keep_BS: Tensor | None, target_BT: Tensor) -> Tensor:
        return self.table[source_BS[:, :1], target_BT]

    def start(self, memory: Tensor, beams: int = 1) -> _State:
        return _State(memory.repeat_interleave(beams))

    def step(self, state: _State, ids_N: Tensor) -> tuple[Tensor, _State]:
        return self.table[state.source_N, ids_N], state

    def reorder(self, state: _State, index_N: Tensor) -> _State:
        return _State(state.source_N[index_N])


def _shape(family: str = "transformer") -> Shape:
    return Shape(
        family=family,
        num_layers=1,
        width=16,
        num_heads=2,
        num_kv_heads=2,
        head_width=8,
        feedforward_width=24,
        vocabulary_size=VOCABULARY,
        context=LONGEST + 2,
    )


def _model(kind: str) -> Translator:
    generator = torch.Generator().manual_seed(5)
    if kind == "table":
        return _Table(2 * torch.randn(VOCABULARY, VOCABULARY, VOCABULARY, generator=generator))
    model = build_any(_shape(kind), seed=1)
    assert isinstance(model, Translator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.4)
    return model.eval()


@pytest.fixture(params=["table", "transformer", "t5"], scope="module")
def model(request: pytest.FixtureRequest) -> Translator:
    return _model(request.param)


SOURCE = torch.tensor([[2, 3, 1, 0], [3, 1, 0, 0], [1, 2, 2, 3]])
KEEP = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)


def _targets() -> Iterator[tuple[int, ...]]:
    """All that end within `LONGEST` tokens, and all that are cut off there; without the end."""
    others = [token for token in range(VOCABULARY) if token != END]
    for length in range(LONGEST + 1):
        yield from itertools.product(others, repeat=length)


@torch.no_grad()
def _log_probability(model: Translator, row: int, target: tuple[int, ...]) -> float:
    ended = [*target, END][:LONGEST]
    logits = model.logits(SOURCE[row : row + 1], KEEP[row : row + 1], torch.tensor([[BEGIN, *ended[:-1]]]))
    return float(logits[0].log_softmax(-1).gather(1, torch.tensor(ended)[:, None]).sum())


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 2.0])
def test_with_enough_beams_nothing_is_missed(model: Translator, length_penalty: float) -> None:
    """Every target, with its probability, in the order of log p / ((5 + tokens) / 6)^penalty (Wu et al. 2016)."""
    search = Search(BEGIN, END, LONGEST, beams=200, length_penalty=length_penalty)
    for row, found in enumerate(beam_search(model, SOURCE, KEEP, search)):
        expected = {}
        for target in _targets():
            total, tokens = _log_probability(model, row, target), min(len(target) + 1, LONGEST)
            expected[target] = (len(target) < LONGEST, total / ((5 + tokens) / 6) ** length_penalty, total)
        assert len(found) == len(expected) == 1 + 3 + 9 + 27 + 81
        assert {tuple(target.ids) for target in found} == set(expected)
        for target in found:
            finished, score, total = expected[tuple(target.ids)]
            assert target.finished == finished
            assert (target.score, target.log_probability) == pytest.approx((score, total), abs=1e-4)
        order = [(not target.finished, -target.score) for target in found]
        assert order == sorted(order)


def test_the_penalty_changes_what_is_best() -> None:
    """A model that ends at once with 0.4, and otherwise surely after three tokens more."""
    table = torch.full((VOCABULARY, VOCABULARY, VOCABULARY), -1e9)
    table[:, BEGIN, END], table[:, BEGIN, 2] = torch.tensor(0.55).log(), torch.tensor(0.45).log()
    table[:, 2, 3] = table[:, 3, END] = 0.0
    best = {}
    for length_penalty in (0.0, 3.0):
        search = Search(BEGIN, END, 5, beams=2, length_penalty=length_penalty)
        best[length_penalty] = beam_search(_Table(table), SOURCE[:1], None, search)[0][0].ids
    assert best == {0.0: [], 3.0: [2, 3]}


def test_one_beam_is_greedy(model: Translator) -> None:
    """Reading all anew at each step."""
    found = beam_search(model, SOURCE, KEEP, Search(BEGIN, END, LONGEST, beams=1))
    for row, targets in enumerate(found):
        written = [BEGIN]
        while len(written) <= LONGEST and (len(written) == 1 or written[-1] != END):
            with torch.no_grad():
                logits = model.logits(SOURCE[row : row + 1], KEEP[row : row + 1], torch.tensor([written]))
            written.append(int(logits[0, -1].argmax()))
        assert len(targets) == 1
        assert [*targets[0].ids, *([END] if targets[0].finished else [])] == written[1:]


def test_more_beams_find_what_greedy_search_misses() -> None:
    """The likelier first token leads to nothing likely: 0.6 * 0.3 against 0.4 * 1."""
    table = torch.full((VOCABULARY, VOCABULARY, VOCABULARY), -1e9)
    table[:, BEGIN, 2], table[:, BEGIN, 3] = torch.tensor(0.6).log(), torch.tensor(0.4).log()
    table[:, 2] = torch.tensor([0.35, 0.3, 0.35, 1e-9]).log()
    table[:, 3, END] = 0.0
    model = _Table(table)
    best = [
        beam_search(model, SOURCE[:1], None, Search(BEGIN, END, 2, beams=beams, length_penalty=0.0))[0][0]
        for beams in (1, 2)
    ]
    assert best[0].ids[0] == 2
    assert best[1].ids == [3]
    assert best[1].log_probability == pytest.approx(float(torch.tensor(0.4).log()))


@pytest.mark.parametrize("beams", [1, 2, 3])
def test_a_source_finds_the_same_alone(model: Translator, beams: int) -> None:
    search = Search(BEGIN, END, LONGEST, beams=beams)
    together = beam_search(model, SOURCE, KEEP, search)
    for row, targets in enumerate(together):
        alone = beam_search(model, SOURCE[row : row + 1, : int(KEEP[row].sum())], None, search)[0]
        assert [target.ids for target in alone] == [target.ids for target in targets]
        assert [target.score for target in alone] == pytest.approx([target.score for target in targets], abs=1e-4)


def test_no_target_is_found_twice(model: Translator) -> None:
    for targets in beam_search(model, SOURCE, KEEP, Search(BEGIN, END, LONGEST, beams=7)):
        assert len({tuple(target.ids) for target in targets}) == len(targets) == 7
