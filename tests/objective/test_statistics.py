import torch

from groundup.objective.statistics import Statistics


def test_means_are_over_all_values_and_begin_anew_when_they_were_taken() -> None:
    statistics = Statistics()
    statistics.add("margin", torch.tensor([1.0, 2.0, 3.0]))
    statistics.add("margin", torch.tensor([[10.0, 99.0]]), torch.tensor([[True, False]]))
    statistics.add("nothing", torch.tensor([1.0]), torch.tensor([False]))
    statistics.add_greatest("error", torch.tensor([1.0, 5.0]), torch.tensor([True, False]))
    statistics.add_greatest("error", torch.tensor([0.5]), torch.tensor([True]))
    statistics.add_greatest("error", torch.tensor([7.0]), torch.tensor([False]))
    assert statistics.take() == {"margin": 4.0, "error": 1.0}
    assert statistics.take() == {}


def test_gradients_are_left_alone() -> None:
    statistics, value = Statistics(), torch.tensor([2.0], requires_grad=True)
    statistics.add("value", value)
    (value * value).sum().backward()
    assert value.grad is not None and value.grad.item() == 4.0
