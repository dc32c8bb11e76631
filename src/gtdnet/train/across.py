"""What several processes compute together as one with all their clips would.

Each has its own part of a batch. Gradients are averaged by DistributedDataParallel, or by FSDP
(:mod:`.sharded`); here are the two layers that look at more than a clip at a time, or draw for it.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

M = TypeVar("M", bound=nn.Module)


def share_dropout(model: nn.Module, rank: int, size: int) -> None:
    """Let dropout draw for the batch of all processes alike, and take its own part of that."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = SharedDropout
            module.rank, module.size = rank, size  # type: ignore[assignment]


class SharedDropout(nn.Dropout):
    """Zeros of what one process with all clips would draw from the same seed (on a CPU)."""

    rank: int
    size: int

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not self.p:
            return input
        n = len(input)
        shape = (self.size * n, *input.shape[1:])
        drawn = torch.ones(shape, dtype=input.dtype, device=input.device)
        return input * F.dropout(drawn, self.p)[self.rank * n : (self.rank + 1) * n]


def synchronise_norms(model: M, device: torch.device) -> M:
    """The network with batch norms, but for frozen ones, that see the clips of all processes.

    On GPUs they are PyTorch's, which do not run on a CPU.
    """
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # in place, for it is no norm itself
        return model
    for module in model.modules():
        if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            module.__class__ = SyncedBatchNorm
    return model


class SyncedBatchNorm(_BatchNorm):
    """Batch norm over all processes, of maps [N, C, ...]; N may be 0 in some of them."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        shape = [1, -1] + [1] * (input.ndim - 2)
        axes = [axis for axis in range(input.ndim) if axis != 1]
        x = input.float()
        count = x.new_tensor([x.numel() // x.shape[1]])
        *sums, number = _over_all(torch.cat([x.sum(axes), count])).split(x.shape[1])
        number = number.clamp(min=1)  # no process has a clip
        mean = sums[0] / number
        # In a second pass: the difference of two large sums would lose what is small.
        centred = x - mean.view(shape)
        variance = _over_all(centred.square().sum(axes)) / number
        if int(number) > 1:
            self._remember(mean.detach(), variance.detach(), number.detach())
        x = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            x = x * self.weight.view(shape) + self.bias.view(shape)
        return x.to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, number: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = self.momentum
        if share is None:
            share = 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        unbiased = variance * (number / (number - 1).clamp(min=1))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)

    def _check_input_dim(self, input: Tensor) -> None:
        pass  # it was one of any number of dimensions


def _over_all(tensor: Tensor) -> Tensor:
    """The sum over all processes; so is that of its gradients."""
    return _Sum.apply(tensor)  # type: ignore[no-any-return]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return _summed(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return _summed(gradient)


def _summed(tensor: Tensor) -> Tensor:
    total = tensor.detach().clone().contiguous()
    torch.distributed.all_reduce(total)
    return total
