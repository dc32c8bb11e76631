"""Weights made to fit a network, and loaded with an account of what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from gtdnet.errors import InputError
from gtdnet.text import first_of
from gtdnet.weights.read import read_tensors

_HEADS = ("fc.", "classifier.", "head.")


def is_temporal(key: str) -> bool:
    """Whether a backbone's tensor belongs to a temporal module rather than to the 2D network."""
    return "temporal" in key.split(".")


@dataclass(frozen=True)
class BackboneWeights:
    """Weights for a backbone: of the plain 2D network, and of temporal modules, if there are any.

    Attributes:
        plain, temporal: by the backbone's own keys.
        label: what messages call them.
    """

    plain: Mapping[str, Tensor]
    temporal: Mapping[str, Tensor]
    label: str

    @classmethod
    def read(cls, source: str | Path | Mapping[str, Tensor]) -> BackboneWeights:
        """From a state dict, a ``.safetensors`` file or a ``.pth``/``.pt``/``.tar`` file.

        Plain or under "state_dict" or "model" (so that a run's last.ckpt will do); with or without
        the prefixes "module.", "model.", "backbone." and "base_model.".

        Raises:
            ValueError: no such file, or no weights in it.
        """
        is_file = isinstance(source, (str, Path))
        tensors = read_tensors(source) if is_file else dict(source)
        for prefix in ("module.", "model.", "backbone.", "base_model."):
            if any(k.startswith(prefix) for k in tensors):
                tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
        return cls(
            {k: v for k, v in tensors.items() if not is_temporal(k)},
            {k: v for k, v in tensors.items() if is_temporal(k)},
            str(source) if is_file else "the state dict",
        )

    def load_plain(self, backbone: nn.Module) -> None:
        """Load the 2D weights into a backbone without temporal modules; InputError if not its.

        They may have any names that the backbone knows (``own_keys``); classifier weights (fc.*,
        classifier.*, head.*) are left out.
        """
        load_all(backbone, self._own(backbone), self.label)

    def load_temporal(self, backbone: nn.Module) -> None:
        """Load the temporal modules' weights; a network whose modules have none stays as it is."""
        learned = any(is_temporal(key) for key in backbone.state_dict())
        if self.temporal and learned:
            # And nothing else: none may stay at random.
            tensors = {**self._own(backbone), **self.temporal}
            load_all(backbone, resize_segments(tensors, backbone), self.label)

    def _own(self, backbone: nn.Module) -> dict[str, Tensor]:
        tensors = backbone.own_keys(self.plain) if hasattr(backbone, "own_keys") else self.plain  # type: ignore[operator]
        return {k: v for k, v in tensors.items() if not k.startswith(_HEADS)}


def resize_segments(tensors: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Fit weights over the time axis to the number of frames that ``model`` has.

    Every module that has such weights fits its own (``resize_time``); all others stay as they are.
    """
    resized = dict(tensors)
    for name, module in model.named_modules():
        if resize_time := getattr(module, "resize_time", None):
            prefix = f"{name}." if name else ""
            own = {k.removeprefix(prefix): v for k, v in resized.items() if k.startswith(prefix)}
            resized |= {prefix + key: value for key, value in resize_time(own).items()}
    return resized


def load_all(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    label: str,
    *,
    called: Mapping[str, str] | None = None,
    most: int = 3,
) -> None:
    """Load every tensor or raise InputError, changing nothing.

    Args:
        called: what messages call a key, where that is not the key itself.
        most: keys of each kind of misfit that a message names.
    """
    wanted, called = module.state_dict(), called or {}
    # Checkpoints from before PyTorch 0.4.1 lack the counters, which nothing here reads.
    missing = [k for k in wanted.keys() - tensors.keys() if not k.endswith("num_batches_tracked")]
    shapes = [
        f"{called.get(k, k)} {list(tensors[k].shape)} for {list(wanted[k].shape)}"
        for k in sorted(wanted.keys() & tensors.keys())
        if tensors[k].shape != wanted[k].shape
    ]
    problems = [
        f"{len(keys)} {'key' if len(keys) == 1 else 'keys'} {what} "
        f"({first_of(sorted(called.get(k, k) for k in keys), most)})"
        for what, keys in (("missing", missing), ("unexpected", tensors.keys() - wanted.keys()))
        if keys
    ]
    if shapes:
        problems.append(f"{len(shapes)} of another shape ({first_of(shapes, most)})")
    if problems:
        raise InputError(f"{label}: the weights do not fit the network: {'; '.join(problems)}")
    module.load_state_dict(dict(tensors), strict=False)
