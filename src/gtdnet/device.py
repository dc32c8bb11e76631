"""Where to compute and with which numbers: names from the command line to PyTorch's."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

import torch
from torch import nn

from gtdnet import moved
from gtdnet.errors import InputError, check_choice

DEVICES = ("auto", "cpu", "cuda", "mps")

Precision = Literal["fp32", "bf16", "fp16", "int8"]
"""The numbers that a network is computed in; of int8, most of its products."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
)
"""Those that PyTorch itself computes a network in."""


def resolve_device(name: str = "auto") -> torch.device:
    """ "auto" is the first GPU if there is one, else the CPU; "cuda:1" names one of several.

    Raises:
        ValueError: unknown device, or one this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in DEVICES or (name != kind and not (kind == "cuda" and number.isdecimal())):
        raise InputError(f"unknown device {name!r}: choose one of {', '.join(DEVICES)}, cuda:1 ...")
    if kind == "cuda":
        count = torch.cuda.device_count()
        if not torch.cuda.is_available() or int(number or 0) >= count:
            raise InputError(
                f"device {name!r} was asked for, but PyTorch sees {count or 'no'} CUDA devices "
                f"here; use --device cpu, or install a CUDA build of PyTorch and its driver"
            )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise InputError("device 'mps' was asked for, but there is none here; use --device cpu")
    return torch.device(name)


def check_devices(name: str, device: torch.device, number: int) -> None:
    """Raise InputError unless there are so many devices of the kind that ``name`` came to."""
    if device.type == "cuda" and number > torch.cuda.device_count():
        raise InputError(
            f"devices={number} GPUs were asked for, {torch.cuda.device_count()} are here"
        )
    if number > 1 and (device.index is not None or device.type == "mps"):
        raise InputError(
            f"devices={number} cannot be had with --device {name}; "
            f"use --device cuda or cpu, or --devices 1"
        )


def resolve_precision(name: str, device: torch.device) -> Precision:
    """One of :data:`DTYPES`; "auto" is bf16 where the processor computes with it, else fp32.

    Raises:
        ValueError: unknown precision, or fp16 on a CPU.
    """
    if name == "fp16" and device.type == "cpu":
        raise InputError("precision 'fp16' needs a GPU; use --precision bf16 or fp32 on a CPU")
    check_choice("precision", name, ("auto", *DTYPES))
    if name in PRECISIONS and name in DTYPES:
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu" and torch.backends.mkldnn.is_available():
        return "bf16" if _has_bf16_units() else "fp32"
    return "fp32"


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """Autocast context of a resolved precision (nothing for fp32)."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, DTYPES[precision])


def to_channels_last(model: nn.Module) -> None:
    """Give every 4-axis parameter the channels_last memory format, in place.

    ``Module.to(memory_format=...)`` refuses networks that have a Conv3d, as ACTION-Net.
    """
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def has_amx() -> bool:
    """Whether the processor has units for products of bf16 matrices."""
    return getattr(torch.cpu, "_is_amx_tile_supported", bool)()


def _has_bf16_units() -> bool:
    # Without instructions for bf16 products, emulating them costs more than fp32.
    return has_amx() or getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()


__getattr__ = moved.names(__name__)
