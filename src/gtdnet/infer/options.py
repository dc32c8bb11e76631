"""What ``gtdnet predict`` is asked for."""

from dataclasses import dataclass


@dataclass
class PredictOptions:
    """Recognise what happens in videos

    Args:
        model: the model file (*.safetensors), an exported one (*.onnx, *.xml), or hf://user/name.
        videos: files, folders (with all videos below) and patterns such as "clips/**/*.mp4".
        topk: classes to give per video or window.
        clips: test clips per video or window.
        crops: test crops per clip: 1 (centre) or 3 (along the longer side).
        average: what is averaged over the crops and clips: probabilities, or logits, as the test
            scripts of TSM and its descendants do.
        num_segments: frames per clip; default: as in training.
        window: seconds; cuts each video into windows and gives the classes of each.
        stride: seconds from the start of one window to the next; default: as long as a window.
        fps: frames per second of folders of pictures and of videos that do not state theirs.
        batch_size: views that go through the model at a time.
        num_workers: decoding processes; default: one per core, at most 8 (half of them when the
            model runs on the CPU). Windows are decoded in one.
        device: auto, cpu, cuda or mps.
        engine: that computes. auto: of an exported model its own; else openvino on a CPU where it
            is installed and there are enough clips to make up for the seconds of its preparation;
            else torch.
        precision: fp32, bf16, fp16 or auto (what is fast on the device); default: fp32, of an
            exported model its own.
    """

    model: str
    videos: list[str]
    topk: int = 5
    clips: int = 1
    crops: int = 1
    average: str = "probabilities"
    num_segments: int | None = None
    window: float | None = None
    stride: float | None = None
    fps: float | None = None
    batch_size: int = 8
    num_workers: int | None = None
    device: str = "auto"
    engine: str = "auto"
    precision: str | None = None
