"""Starting a network at the function of one that was trained already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gtdnet.models.classifier import VideoClassifier
from gtdnet.models.model_file import ModelFile, load_model
from gtdnet.models.zoo import create_model, model_options

_ARCHITECTURE = (
    "stages", "every", "fold_div", "reduction", "aggregation", "alpha", "appearance", "beta",
    "attention", "gate", "difference", "gtd_stages",
)  # fmt: skip


@dataclass(frozen=True)
class Start:
    """A network to train, and where it stands.

    Attributes:
        model: in training mode, on the CPU.
        source: the model file it came from.
        exact: whether it computes what the source computes (at this number of frames), up to the
            rounding of floats, apart from a new classifier.
        keeps_classifier: whether the classes are among the source's, so that their rows of its
            classifier were kept.
    """

    model: VideoClassifier
    source: ModelFile
    exact: bool
    keeps_classifier: bool

    def describe(self) -> str:
        """One line for people."""
        relation = "the function of" if self.exact else "the weights of"
        head = "classifier kept" if self.keeps_classifier else "new classifier for other classes"
        return f"starting at {relation} {self.source.model.name} in {self.source.path}; {head}"


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
    model: its blocks start at identity (:func:`gtdnet.create_model`). Its options are those of the
    file unless others are given, and its classifier's rows are found by class name.

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
    source = load_model(path, num_segments=num_segments)
    old = source.model
    old_method, method = (n.partition("_")[0] for n in (old.name, name))
    same = old_method == method
    inherited = ["width"]
    if same or {old_method, method} <= {"tsm", "gtdnet"}:
        inherited += _ARCHITECTURE
    known = model_options(name)
    taken = {k: old.options[k] for k in inherited if k in known and k in old.options}
    model = create_model(
        name,
        len(class_names),
        num_segments,
        pretrained=old.backbone.state_dict(),
        init=init,
        **{**taken, **options},
    )
    rows = {name: row for row, name in enumerate(source.spec.class_names)}
    keeps_classifier = all(name in rows for name in class_names)
    if keeps_classifier:
        kept = [rows[name] for name in class_names]
        with torch.no_grad():
            model.classifier.weight.copy_(old.classifier.weight[kept])
            model.classifier.bias.copy_(old.classifier.bias[kept])
    altered = any(model.options[k] != v for k, v in taken.items())
    upgraded = (old_method, method) == ("tsm", "gtdnet") and init != "default"
    return Start(model, source, (same or upgraded) and not altered, keeps_classifier)
