"""Starting a network at the function of one that was trained already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gtdnet.errors import InputError
from gtdnet.models.build import create_model, model_options, parts_of
from gtdnet.models.classifier import VideoClassifier
from gtdnet.models.model_file import ModelFile, load_model
from gtdnet.text import alike
from gtdnet.weights.fit import is_temporal


@dataclass(frozen=True)
class Start:
    """A network to train, and where it stands.

    Attributes:
        model: in training mode, on the CPU.
        source: the model file it came from, at this number of frames.
        trained: the clips that the file was trained on, as :meth:`ClipSpec.describe` words it.
        exact: whether it computes what the source computes (at this number of frames), up to the
            rounding of floats, apart from a new classifier.
        keeps_classifier: whether the classes are among the source's, so that their rows of its
            classifier were kept.
    """

    model: VideoClassifier
    source: ModelFile
    trained: str
    exact: bool
    keeps_classifier: bool

    def describe(self) -> str:
        """One line for people."""
        relation = "the function of" if self.exact else "the 2D weights of"
        head = "classifier kept" if self.keeps_classifier else "new classifier for other classes"
        return (
            f"starting at {relation} {self.source.model.name} in {self.source.path} "
            f"({self.trained}); {head}"
        )


def start_from(
    path: str | Path,
    name: str,
    class_names: Sequence[str],
    num_segments: int,
    *,
    init: str = "auto",
    **options: Any,
) -> Start:
    """Build a named model that begins where the one in a model file stands.

    Of the same method it is that very network. A GTDNet begins at exactly the function of a TSM
    model: its blocks start at identity (:func:`gtdnet.create_model`). From any other method's
    file it takes the 2D weights. Its options are those of the file, where it has the same ones,
    unless others are given; its classifier's rows are found by class name.

    Args:
        path: the model file.
        name: one of :func:`gtdnet.list_models`.
        class_names: of the new model, in index order.
        num_segments: T of the new model; weights over the frames are fitted to it.
        init: as in :func:`gtdnet.create_model`.
        options: as in :func:`gtdnet.create_model`.

    Raises:
        ValueError: not a model file, or one whose weights do not fit the named model.
    """
    source = load_model(path)
    trained = source.spec.describe()
    if source.spec.num_segments != num_segments:
        source = load_model(path, num_segments=num_segments)
    old = source.model
    (old_method, old_backbone), (method, backbone) = parts_of(old.name), parts_of(name)
    same, upgrade = method is old_method, old_method.name in method.exact_starts
    own = backbone.network.options
    if same:
        inherited = [key for key in model_options(name) if key != "dropout"]
    else:
        inherited = [*own, *(method.exact_starts[old_method.name] if upgrade else ())]
    taken = {key: old.options[key] for key in inherited if key in old.options}
    chosen = {**taken, **options}
    wanted = {**model_options(name), **chosen}
    if old_backbone != backbone or any(old.options[key] != wanted[key] for key in own):
        raise InputError(
            f"{path}: holds a {_told(old.name, old.options, own)}, from which a "
            f"{_told(name, chosen, own)} cannot start, their 2D networks being different; choose a "
            f"model of the same depth and kind"
        )
    weights = old.backbone.state_dict()
    if not same:  # modules of another method fit nowhere
        weights = {key: value for key, value in weights.items() if not is_temporal(key)}
    try:
        model = create_model(
            name, len(class_names), num_segments, pretrained=weights, init=init, **chosen
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    rows = {name: row for row, name in enumerate(alike(source.spec.class_names))}
    wanted_rows = [rows.get(name) for name in alike(class_names)]
    kept = [row for row in wanted_rows if row is not None]
    keeps_classifier = len(kept) == len(wanted_rows)
    if keeps_classifier:
        with torch.no_grad():
            model.classifier.weight.copy_(old.classifier.weight[kept])
            model.classifier.bias.copy_(old.classifier.bias[kept])
    as_taken = all(model.options[key] == value for key, value in taken.items())
    exact = (same or (upgrade and init != "default")) and as_taken
    return Start(model, source, trained, exact, keeps_classifier)


def _told(name: str, options: Mapping[str, Any], of: Iterable[str]) -> str:
    """ "tsm_resnet18 of width 0.5"."""
    return name + "".join(f" of {key} {options[key]}" for key in of if key in options)
