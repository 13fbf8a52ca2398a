import torch

from groundup.train.precision import autocast


def test_autocast_runs_products_in_bfloat16_and_nothing_under_fp32() -> None:
    linear, x = torch.nn.Linear(4, 4), torch.ones(1, 4)
    with autocast("cpu", "bf16"):
        output = linear(x)
    output.float().sum().backward()
    assert output.dtype == torch.bfloat16
    assert linear.weight.dtype == linear.weight.grad.dtype == torch.float32
    with autocast("cpu", "fp32"):
        assert linear(x).dtype == torch.float32
