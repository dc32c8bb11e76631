"""What ``gtdnet export`` is asked for, and whether that can be."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gtdnet.errors import InputError, check_at_least, check_choice
from gtdnet.files import check_free

if TYPE_CHECKING:
    from gtdnet.device import Precision
    from gtdnet.engines import Engine


@dataclass
class ExportOptions:
    """Export a model file to ONNX, OpenVINO and torch.export

    Args:
        model: a run folder, a model file (*.safetensors), or hf://user/name.
        output: folder to write; new or empty.
        formats: onnx, openvino and torch, those that are wanted with commas between; default: all
            whose packages are installed.
        precision: bf16: of openvino and torch; int8: of openvino, needs data.
        clips: a video file, or a folder of them, on which both models must agree; default: clips of
            data, or without it of the built-in dataset.
        data: dataset for int8: ranges of values are taken from its train split, the accuracy is
            measured on its validation split.
        format: how data is laid out; default: recognised.
        calibration_clips: training clips that int8's ranges are taken from, of every class as many;
            default: 300.
        validation_clips: clips that int8's accuracy is measured on, of every class as many;
            default: all.
        num_segments: frames per clip; default: as in training.
        short_side: the shorter side in pixels before the crops; default: as in the model file.
        crop_size: side in pixels of the square the model sees; default: as in the model file.
        num_workers: decoding processes while the accuracy is measured; default: half as many as
            there are cores, at most 8.
        stream: write the step of a causal model by one frame, its memory among the inputs and
            outputs, in place of the model on clips (docs/streaming.md).
        seed: of the choice of clips.
        force: keep an int8 model that loses more than half a point of top-1.
    """

    model: str
    output: str
    formats: str | None = None
    precision: str = "fp32"
    clips: str | None = None
    data: str | None = None
    format: str | None = None
    calibration_clips: int | None = None
    validation_clips: int | None = None
    num_segments: int | None = None
    short_side: int | None = None
    crop_size: int | None = None
    num_workers: int | None = None
    stream: bool = False
    seed: int = 0
    force: bool = False


def check_options(options: ExportOptions) -> "Precision":
    """The precision that is asked for.

    Raises:
        ValueError: options that contradict each other, or an output that is there already.
    """
    from gtdnet.device import PRECISIONS
    from gtdnet.engines import is_exported
    from gtdnet.infer.scoring import check_loading

    saved = {precision for kind in writers().values() for precision in kind.saved_precisions}
    known: list[Precision] = [precision for precision in PRECISIONS if precision in saved]
    precision = check_choice("precision", options.precision, known)
    if is_exported(options.model):
        raise InputError(
            f"{options.model}: is exported already; give the model file (.safetensors) that it was "
            f"made from"
        )
    if precision == "int8" and not options.data:
        raise InputError(
            "--precision int8 needs --data, a dataset to take the ranges of values from and to "
            "measure the accuracy on"
        )
    if options.stream and precision not in ("fp32", "int8"):
        raise InputError(
            f"--stream writes fp32 or int8; leave out --precision {precision} (OpenVINO computes a "
            f"stream of fp32 in bf16 where that is asked for)"
        )
    if options.data and precision != "int8":
        raise InputError(
            f"--data is for --precision int8; leave it out for {precision}, or give clips "
            f"to compare on by --clips"
        )
    for name in ("calibration_clips", "validation_clips"):
        number = getattr(options, name)
        check_at_least(1, **{name: number})
        if number is not None and precision != "int8":
            raise InputError(f"--{name} is for --precision int8; leave it out for {precision}")
    check_loading(1, options.num_workers)
    check_free(Path(options.output))
    return precision


def choose_formats(
    asked_for: str | None, precision: "Precision"
) -> tuple[list[str], dict[str, str]]:
    """The formats to write, and the reasons why others are not.

    Raises:
        ValueError: one that is asked for is unknown or cannot be written, or none can.
    """
    known, asked = writers(), None
    if asked_for is not None:
        asked = [name.strip() for name in asked_for.split(",")]
        for name in asked:
            if name not in known:
                raise InputError(f"unknown format {name!r}: choose from {', '.join(known)}")
    reasons = {name: known[name].cannot_save(precision) for name in asked or known}
    left_out = {name: reason for name, reason in reasons.items() if reason}
    formats = [name for name in known if name in reasons and name not in left_out]
    if left_out and (asked or not formats):
        name, reason = next(iter(left_out.items()))
        what = "format" if asked else "no format can be written:"
        raise InputError(f"{what} {name}: {reason}")
    return formats, left_out


def writers() -> "Mapping[str, type[Engine]]":
    """The engines that have files, by name, which is the format's."""
    from gtdnet.engines import ENGINES

    return {name: kind for name, kind in sorted(ENGINES.items()) if kind.suffixes}
