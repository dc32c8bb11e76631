"""What ``gtdnet convert`` is asked for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ConvertOptions:
    """Make an official checkpoint of another project a model file

    Args:
        checkpoint: the file.
        to: the model file to write (*.safetensors).
        num_segments: frames (or groups of frames) per clip; default: what the file tells, else 8,
            or 1 for an image classifier.
        classes: names of the classes: a text file with one a line, or a built-in list:
            something-v1, something-v2, kinetics400, ucf101, hmdb51, jester; default: class 0,
            class 1, ...
        fold_div: of TSM, whose files do not tell it: 1/fold_div of the channels moves in each
            direction; default: 8.
        sampling: how frames are chosen; dense-tsm: as the dense models of TSM and its descendants
            are tested; default: segment.
        frame_interval: frames between two of dense sampling; default: 64 / num_segments.
        rate: frames per second of rate sampling.
        short_side: the shorter side in pixels before the crop; default: 256.
        crop_size: side in pixels of the square the model sees; default: 224.
        interpolation: of resizing; default: bilinear.
        antialias: low-pass filter when shrinking; default: as the project's own test does.
        overwrite: replace the file that is there.
    """

    checkpoint: str
    to: str
    num_segments: int | None = None
    classes: str | None = None
    fold_div: int | None = None
    sampling: str | None = None
    frame_interval: int | None = None
    rate: float | None = None
    short_side: int | None = None
    crop_size: int | None = None
    interpolation: str | None = None
    antialias: bool | None = None
    overwrite: bool = False
