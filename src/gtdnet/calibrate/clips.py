"""What a model says of held-out clips, before any temperature: logits, and the clips' labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gtdnet.calibrate.options import CalibrateOptions
from gtdnet.calibrate.temperature import Labels
from gtdnet.data.dataset import target
from gtdnet.data.formats import Annotations, VideoRecord, read_annotations
from gtdnet.data.formats.held_out import SPLIT_FILE, HeldOut
from gtdnet.errors import InputError
from gtdnet.evaluate.protocol import check_kind, match_classes
from gtdnet.infer.recognizer import Recognizer
from gtdnet.infer.scoring import score_batches
from gtdnet.text import progress_bar
from gtdnet.train.config import TrainConfig

LEAST = 20
"""Labelled clips below which there is nothing to learn a temperature from."""


@dataclass(frozen=True)
class HeldOutClips:
    """Clips that were scored, in their order.

    Attributes:
        records: of N clips.
        logits: float32 [N, V, K].
        labels: int64 [N], or of multi-label clips [N, K], in the model's order.
        failures: path and reason of each clip that could not be read.
    """

    records: tuple[VideoRecord, ...]
    logits: Tensor
    labels: Labels
    failures: tuple[tuple[str, str], ...]


def score_clips(
    recognizer: Recognizer, annotations: Annotations, options: CalibrateOptions
) -> HeldOutClips:
    """Score the clips that have a label.

    Raises:
        ValueError: there are no labels, too few clips, or the classes do not match.
    """
    spec = recognizer.spec
    check_kind(spec, annotations)
    label_map = match_classes(spec.class_names, annotations.class_names)
    where = f"the {annotations.split} split of {annotations.root}"
    records = [record for record in annotations.records if record.label is not None]
    if not records:
        raise InputError(
            f"{where} has no labels, without which there is nothing to calibrate on; choose "
            f"another --split, or label the clips"
        )
    _check_enough(len(records), where)
    kept: list[int] = []
    rows: list[Tensor] = []
    failures = [(r.path, "it is annotated but not there") for r in annotations.missing]
    with progress_bar("clips", len(records)) as advance:
        for batch in score_batches(
            recognizer,
            records,
            clips=options.clips,
            crops=options.crops,
            batch_size=options.batch_size,
            num_workers=options.num_workers,
            fps=options.fps,
            compute=recognizer.logits,
        ):
            failures += [(failure.path, failure.reason) for failure in batch.failures]
            if len(batch.indices):
                kept += batch.indices.tolist()
                rows.append(torch.from_numpy(batch.scores))
            advance(len(batch))
    _check_enough(len(kept), f"{where}, without the {len(failures)} that cannot be read,")
    done = tuple(records[i] for i in kept)
    labels = []
    for record in done:
        classes = record.classes
        if label_map is not None:
            classes = tuple(int(label_map[k]) for k in classes)
        labels.append(target(classes, spec))
    return HeldOutClips(done, torch.cat(rows), np.array(labels, dtype=np.int64), tuple(failures))


def _check_enough(number: int, where: str) -> None:
    if number < LEAST:
        raise InputError(
            f"{where} has {number} labelled clips; a calibration needs at least {LEAST}, and more "
            f"make it better"
        )


def trained_on(model: str, provenance: dict, annotations: Annotations) -> int | None:
    """How many of the clips the model was trained on; None where nothing tells.

    The run that the model file lies in knows its training clips; else the file itself says what its
    dataset was called.
    """
    run, records = Path(model).parent, annotations.records
    if (run / "config.yaml").is_file():
        try:
            config = TrainConfig.load(run / "config.yaml")
            train = read_annotations(config.data, "train", config.format, allow_missing=True)
            if (run / SPLIT_FILE).is_file():
                train = HeldOut.read(run / SPLIT_FILE).parts(train)[0]
        except InputError:  # the dataset is elsewhere now
            pass
        else:
            seen = {Path(record.path).resolve() for record in train.records}
            return sum(Path(record.path).resolve() in seen for record in records)
    if "data" not in provenance:
        return None
    is_same = provenance["data"] == Path(annotations.root).name
    return len(records) if is_same and annotations.split == "train" else 0
