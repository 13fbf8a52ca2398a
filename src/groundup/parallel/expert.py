"""Expert parallelism: the experts of each layer divided over devices, to which tokens travel and come back.

As in GShard (Lepikhin et al. 2020, arXiv:2006.16668), but without a limit to what an expert takes: devices first
tell each other how many tokens come. Names of dimensions are those of `model.experts`; P processes have different
experts, R = M tokens, of all of them, come to one.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.distributed._functional_collectives import all_reduce, all_to_all_single
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from groundup.model.experts import Experts, MixtureOfExperts, StackedLinear, stacked_linear
from groundup.parallel.divided import local


def expert_parallel(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Divide the experts of `model`, which may be on the meta device, over a mesh of one axis, in place.

    Returns it. Weights become DTensors of their old names and whole shapes. Compilers shall not look into the
    experts, and `average_expert_gradients` is to follow a step's backward passes.
    """
    for mixture in _mixtures(model):
        mixture.experts = DividedExperts(mixture.experts, mesh)
    return model


@torch.no_grad()
def average_expert_gradients(model: nn.Module) -> None:
    """Divide by P, once a step, what the backward pass has given the experts.

    Data parallelism averages gradients over processes that have other tokens. Those of experts are averaged over
    the copies of an expert only, after tokens from P processes have added up in each.
    """
    for module in model.modules():
        if isinstance(module, DividedExperts):
            for weight in module.parameters():
                assert weight.grad is not None
                local(weight.grad).div_(module.group.size())


def balance_together(model: nn.Module, group: ProcessGroup) -> nn.Module:
    """Let the balance loss, in training, count the tokens of all processes of `group`, in place; returns it.

    An even load is asked for over what they train on together, not of each alone, as for Qwen3 (Qiu et al. 2025,
    arXiv:2501.11873). Beside the counts, this loss is linear in the tokens' probabilities, of which each process
    takes its own: the mean over processes is the loss over all tokens.
    """
    for mixture in _mixtures(model):
        if mixture.router_aux_loss_coef:
            mixture.register_forward_hook(_CountTogether(group))
    return model


class DividedExperts(Experts):
    """Some of a layer's experts, and the way to those that other processes have."""

    def __init__(self, experts: Experts, mesh: DeviceMesh):
        nn.Module.__init__(self)
        self.group = mesh.get_group()
        self.gate = _OwnLinear(experts.gate, mesh)
        self.up = _OwnLinear(experts.up, mesh)
        self.down = _OwnLinear(experts.down, mesh)

    def forward(self, x_MD: Tensor, tokens_E: Tensor) -> Tensor:
        """As `Experts`; all processes of the group must call it as often."""
        device = x_MD.device.type
        if torch.is_autocast_enabled(device):  # the experts would do so; less travels
            x_MD = x_MD.to(torch.get_autocast_dtype(device))
        journey = _Journey(tokens_E, self.group)
        return journey.back(super().forward(journey.there(x_MD), journey.tokens_E))


class _OwnLinear(StackedLinear):
    """The maps of this process's experts, of a parameter (E, out, in) that holds them all."""

    def __init__(self, linear: StackedLinear, mesh: DeviceMesh):
        nn.Module.__init__(self)
        self.in_features = linear.in_features
        # Each process fills its own part: none waits for the first one's.
        self.weight = nn.Parameter(distribute_tensor(linear.weight, mesh, [Shard(0)], src_data_rank=None))

    def forward(self, x_RI: Tensor, tokens_E: Tensor) -> Tensor:
        assert isinstance(self.weight, DTensor)
        return stacked_linear(x_RI, self.weight.to_local(), tokens_E)


class _Journey:
    """To the processes that have their experts go M rows, sorted by expert, and R come from all processes.

    `tokens_E` (E / P,) counts, of what comes here, the rows of each of this process's experts.
    """

    def __init__(self, tokens_E: Tensor, group: ProcessGroup):
        self._group = group
        to_PE = tokens_E.unflatten(0, (group.size(), -1))
        from_PE = all_to_all_single(tokens_E, None, None, group).view_as(to_PE)
        self.tokens_E = from_PE.sum(0)
        self._to, self._from = torch.stack([to_PE.sum(1), from_PE.sum(1)]).tolist()
        # They come sorted by process, then by expert.
        expert_PE = torch.arange(to_PE.shape[1], device=tokens_E.device).expand_as(from_PE)
        expert_R = expert_PE.flatten().repeat_interleave(from_PE.flatten(), output_size=sum(self._from))
        self._order_R = expert_R.argsort(stable=True)

    def there(self, x_MD: Tensor) -> Tensor:
        """(M, D) -> (R, D), sorted by expert."""
        return all_to_all_single(x_MD.contiguous(), self._from, self._to, self._group)[self._order_R]

    def back(self, x_RD: Tensor) -> Tensor:
        """(R, D) -> (M, D), each row to where it came from."""
        return all_to_all_single(x_RD[self._order_R.argsort()], self._to, self._from, self._group)


class _CountTogether:
    """After a layer has routed its tokens: the counts of all processes in place of its own."""

    def __init__(self, group: ProcessGroup):
        self._group = group

    def __call__(self, mixture: MixtureOfExperts, _inputs: Any, _output: Tensor) -> None:
        own = mixture.routing
        if mixture.training and mixture.is_recording and own is not None:
            counts_E = all_reduce(own.tokens_E, "sum", self._group)
            mixture.routing = own._replace(tokens_E=counts_E, num_tokens=own.num_tokens * self._group.size())


def _mixtures(model: nn.Module) -> Iterator[MixtureOfExperts]:
    return (module for module in list(model.modules()) if isinstance(module, MixtureOfExperts))
