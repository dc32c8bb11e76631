"""What ``gtdnet show`` is asked for."""

from dataclasses import dataclass


@dataclass
class ShowOptions:
    """Show how a model sees one clip: differences, global difference scores, activation maps

    Args:
        model: a run folder, a model file (*.safetensors), or hf://user/name.
        video: a video file or a folder of numbered pictures.
        class_name: name or number of the class that the activation maps are about; default: the
            predicted one.
        output: a .png, .pdf, .svg or .html file to write, or a folder for VIDEO.png and
            VIDEO.html.
        overwrite: replace files that are there.
        num_segments: frames per clip; default: as in training.
        device: where to compute; auto: on a GPU if there is one; cuda:1: on the second.
    """

    model: str
    video: str
    class_name: str | None = None
    output: str = "show"
    overwrite: bool = False
    num_segments: int | None = None
    device: str = "auto"
