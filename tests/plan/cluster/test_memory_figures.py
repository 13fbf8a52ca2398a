import pytest

from groundup.plan.cluster.devices import parse_hardware
from groundup.plan.cluster.inference_answer import inference_answer
from groundup.plan.cluster.memory_answer import MemoryQuestion, arrange, memory_answer
from groundup.plan.cluster.states import STATE_RECIPES
from groundup.plan.models import parse_shape
from tests.plan.formulas import check_formulas

H100 = parse_hardware("h100").device


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
@pytest.mark.parametrize("zero", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"tensor": 2, "accumulation": 4},
        {"tensor": 2, "sequence": False, "micro_batch": 2},
        {"pipeline": 4, "accumulation": 8},
        {"pipeline": 2, "virtual_stages": 2, "schedule": "interleaved", "accumulation": 4, "tensor": 2},
        {"context": 2, "micro_batch": 4},
    ],
)
@pytest.mark.parametrize("length", [16, 8192])
def test_every_formula_gives_its_figure(recompute: str, zero: int, sizes: dict[str, int], length: int) -> None:
    """At either moment of the peak: with short sequences or recomputation it is the backward pass."""
    layout = arrange(16, None, recompute=recompute, zero=zero, **sizes)
    shape = parse_shape("8B", None, context=length)
    for flash in (True, False):
        question = MemoryQuestion(shape, layout, STATE_RECIPES["bf16-main-grads"], H100, flash)
        assert check_formulas(memory_answer(question).figures) >= 9


def test_the_peak_is_in_the_forward_or_the_backward_pass() -> None:
    """Both occur, so that the formulas of both are tried."""
    moments = set()
    for zero, length, recompute in ((0, 8192, "none"), (0, 16, "none"), (3, 16, "none"), (0, 8192, "full")):
        layout = arrange(16, None, zero=zero, recompute=recompute, tensor=2, pipeline=2, accumulation=2)
        shape = parse_shape("8B", None, context=length)
        question = MemoryQuestion(shape, layout, STATE_RECIPES["bf16"], H100)
        moments.add(memory_answer(question).as_json()["peak_moment"])
    assert moments == {"forward", "backward"}


@pytest.mark.parametrize(("batch", "tensor"), [(1, 1), (64, 1), (8, 16)])
def test_the_formulas_of_inference(batch: int, tensor: int) -> None:
    for model in ("llama3-8b", "llama3-70b"):
        assert check_formulas(inference_answer(parse_shape(None, model), H100, batch, tensor=tensor).figures) >= 6
