"""Which clips an evaluation measures: those of a dataset, or those that a run held out."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from gtdnet.data.formats import Annotations, list_splits, read_annotations
from gtdnet.data.formats.held_out import SPLIT_FILE, HeldOut
from gtdnet.engines import find_model
from gtdnet.errors import InputError
from gtdnet.text import say
from gtdnet.train.config import TrainConfig


class Source(NamedTuple):
    """The model file, the dataset and its format, and where a run wrote what it held out."""

    model: str
    data: str
    format: str | None
    split_file: Path | None


def find_source(model: str, data: str | None, format: str | None) -> Source:
    """The model file of a run's folder, and by default the dataset that the run was trained on.

    ``model`` is a model file or the folder of a run. InputError if no dataset is known.
    """
    run = Path(model) if (Path(model) / "config.yaml").is_file() else Path(model).parent
    model = find_model(model)
    split_file = run / SPLIT_FILE if (run / SPLIT_FILE).is_file() else None
    if data is None and split_file:
        data, format = str(split_file), None
    elif data is None and (run / "config.yaml").is_file():
        config = TrainConfig.load(run / "config.yaml")
        data, format = config.data, format or config.format
    elif data is None:
        raise InputError(f"{model}: is in no run that says what clips it is for; give --data PATH")
    return Source(model, data, format, split_file)


def read_clips(source: Source, split: str) -> Annotations:
    """The clips of a split; where the dataset has no validation split, those the run held out."""
    _, data, format, split_file = source
    if split_file is None or split != "validation" or split in list_splits(data, format):
        return read_annotations(data, split, format)
    say(f"the validation clips are those that the run held out ({split_file})")
    train = read_annotations(data, "train", format, allow_missing=True)
    return HeldOut.read(split_file).parts(train)[1]
