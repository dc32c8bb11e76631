"""What a checkpoint holds, told by nothing but its keys and shapes, and under our keys."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from gtdnet.errors import InputError
from gtdnet.models.backbones.resnet import DEPTHS, BasicBlock, Bottleneck
from gtdnet.text import first_of
from gtdnet.weights.convert.sources import KINDS, Source


@dataclass(frozen=True)
class Recognised:
    """What a checkpoint holds."""

    source: Source  # its kind
    depth: int  # of the ResNet
    every: int  # 2 where every second block alone has a temporal module, else 1
    num_classes: int  # K
    num_segments: int | None  # T, where a shape tells it
    tensors: Mapping[str, Tensor]  # under this package's keys
    called: Mapping[str, str]  # the file's key for each of ``tensors``
    dropped: tuple[str, ...]  # the file's keys that the network does not use
    # The file's keys of the convolution biases that went into the batch norms.
    folded: tuple[str, ...]
    # Mean and std of the RGB values in [0, 1], where the file tells them.
    normalisation: Mapping[str, tuple[float, ...]]


def recognise(tensors: Mapping[str, Tensor], label: str) -> Recognised:
    """Find out from keys and shapes what a checkpoint holds, and rename it to this package's keys.

    DataParallel's "module." may stand before every key; ``label`` is what messages call the file.
    InputError if it is of no known kind, or of a network that this package does not have.
    """
    prefix = ""
    while tensors and all(key.startswith(f"{prefix}module.") for key in tensors):
        prefix += "module."
    given = {key.removeprefix(prefix): value for key, value in tensors.items()}
    source = _source(given, label)
    normalisation = _take_normalisation(given, source.pixels, label) if source.pixels else {}
    dropped = [key for key in given if re.search(source.drop, key)]
    renamed: dict[str, Tensor] = {}
    called: dict[str, str] = {}
    for key in (k for k in given if k not in dropped):
        new = source.our_key(key)
        if new in called:
            raise InputError(
                f"{label}: {called[new]} and {prefix}{key} both stand for {new}, so it holds two "
                f"networks in one and cannot be converted"
            )
        renamed[new], called[new] = given[key], prefix + key
    _check_stem(renamed, label)
    blocks = {f"layer{i}": _num_blocks(renamed, i) for i in range(1, 5)}
    if not any(blocks.values()):
        raise _unknown(given, label)
    depth = _depth(renamed, tuple(blocks.values()), label)
    folded = _fold_biases(renamed) if source.fold_biases else []
    over_time = [v for k, v in renamed.items() if re.search(source.over_time, k)]
    return Recognised(
        source,
        depth,
        _every(source, given, renamed, blocks, label),
        num_classes=_num_classes(renamed, depth, label),
        num_segments=over_time[0].shape[-1] if over_time else None,
        tensors=renamed,
        called=called,
        dropped=tuple(prefix + key for key in dropped),
        folded=tuple(called[key] for key in folded),
        normalisation=normalisation,
    )


def _source(tensors: Mapping[str, Tensor], label: str) -> Source:
    for kind in KINDS:
        if any(re.search(kind.mark, key) for key in tensors):
            if isinstance(kind, Source):
                return kind
            raise InputError(f"{label}: holds {kind.what}, {kind.why}")
    raise _unknown(tensors, label)


def _unknown(tensors: Mapping[str, Tensor], label: str) -> InputError:
    names = ", ".join(dict.fromkeys(kind.name for kind in KINDS if isinstance(kind, Source)))
    keys = f"its keys are {', '.join([*tensors][:3])}, ..." if tensors else "it holds no tensors"
    return InputError(f"{label}: no network of a known kind ({keys}); known are ResNets of {names}")


def _take_normalisation(
    tensors: dict[str, Tensor], pixels: str, label: str
) -> dict[str, tuple[float, ...]]:
    """Take mean and std of the pixels in [0, 255] out; ClipSpec's, if they are there."""
    names = [name for name in ("mean", "std") if f"{pixels}.{name}" in tensors]
    if len(names) == 1:
        raise InputError(
            f"{label}: has {pixels}.{names[0]} but not the other of mean and std; both or none "
            f"must be there"
        )
    found = {}
    for name in names:
        key = f"{pixels}.{name}"
        value = tensors.pop(key)
        shape = list(value.shape)
        if shape not in ([3], [3, 1, 1], [1, 3, 1, 1]):
            raise InputError(f"{label}: {key} has shape {shape}; expected three numbers, [3, 1, 1]")
        numbers = value.flatten().tolist()
        if not all(map(math.isfinite, numbers)) or (name == "std" and min(numbers) <= 0):
            raise InputError(f"{label}: {key} is {numbers}, which no pixels have")
        found[name] = tuple(number / 255 for number in numbers)
    return found


def _check_stem(tensors: Mapping[str, Tensor], label: str) -> None:
    """Say in words what the likeliest misfits are."""
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    match shapes.get("backbone.conv1.weight"), shapes.get("backbone.layer1.0.conv2.weight"):
        case (_, _, _, _, _), _:
            what = "a 3D network"
        case (_, channels, _, _), _ if channels != 3:
            what = f"a network for input of {channels} channels (optical flow or differences)"
        case _, (outputs, inputs, _, _) if outputs != inputs:
            what = "a ResNeXt (its 3x3 convolutions are grouped)"
        case _, (outputs, _, _, _) if outputs != 64:
            what = "a wide ResNet"
        case _:
            return
    raise InputError(f"{label}: holds {what}, which cannot be converted")


def _num_blocks(tensors: Mapping[str, Tensor], stage: int) -> int:
    places = [re.match(rf"backbone\.layer{stage}\.(\d+)\.", key) for key in tensors]
    return max((int(place[1]) + 1 for place in places if place), default=0)


def _depth(tensors: Mapping[str, Tensor], blocks: tuple[int, ...], label: str) -> int:
    third = any(re.fullmatch(r"backbone\.layer\d\.\d+\.conv3\.weight", key) for key in tensors)
    kind = Bottleneck if third else BasicBlock
    for depth, layout in DEPTHS.items():
        if layout == (kind, blocks):
            return depth
    counts = ", ".join(map(str, blocks))
    raise InputError(
        f"{label}: its four stages have {counts} {kind.__name__} blocks, which is no ResNet of "
        f"depth {', '.join(map(str, DEPTHS))}"
    )


def _num_classes(tensors: Mapping[str, Tensor], depth: int, label: str) -> int:
    """K, of the classifier's weight or bias: loading them compares the two."""
    classifier = [v for k, v in tensors.items() if k.startswith("classifier.") and v.ndim]
    if not classifier:
        raise InputError(
            f"{label}: holds a ResNet-{depth} without a classifier, so it is no model yet; "
            f"train one from it with gtdnet train --pretrained"
        )
    if len(classifier[0]) == 0:
        raise InputError(f"{label}: its classifier has no classes, so it is no model")
    return len(classifier[0])


def _every(
    source: Source,
    given: Mapping[str, Tensor],
    renamed: Mapping[str, Tensor],
    blocks: Mapping[str, int],
    label: str,
) -> int:
    """1 if all blocks have a temporal module, 2 if every second one has."""
    marks = [re.search(source.mark, key) for key in given]
    marked = {mark[1] for mark in marks if mark and mark.re.groups}
    if not marked:
        return 1
    # A module of which the mark alone is missing is left to the accounting, and so is a block
    # whose first convolution is missing.
    modules = [re.search(r"(layer\d\.\d+)\..*\btemporal\.", key) for key in renamed]
    marked |= {module[1] for module in modules if module}
    names = [f"{stage}.{i}" for stage, count in blocks.items() for i in range(count)]
    plain = [n for n in names if n not in marked and f"backbone.{n}.conv1.weight" in renamed]

    def is_odd(block: str) -> bool:
        return int(block.rpartition(".")[2]) % 2 == 1

    if not plain:
        return 1
    if all(map(is_odd, plain)) and not any(map(is_odd, marked)):
        return 2
    raise InputError(
        f"{label}: there is no temporal module in {first_of(plain)}; with modules in neither all "
        f"blocks nor every second one it cannot be converted"
    )


def _fold_biases(tensors: dict[str, Tensor]) -> list[str]:
    """Take the biases of convolutions into the batch norms behind them, in place; their keys."""
    folded = []
    for key in list(tensors):
        norm = re.sub(r"\.conv(\d)\.bias$", r".bn\1.running_mean", key)
        norm = re.sub(r"\.downsample\.0\.bias$", ".downsample.1.running_mean", norm)
        mean = tensors.get(norm)
        if norm != key and mean is not None and mean.shape == tensors[key].shape:
            tensors[norm] = (mean.double() - tensors.pop(key).double()).to(mean.dtype)
            folded.append(key)
    return folded
