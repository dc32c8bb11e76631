"""The two datasets of real video of which reading is measured.

    python benchmarks/reading_data.py --videos VIDEOS --output data/reading
    gtdnet pack data/reading/h264 data/reading/h264-packed
    gtdnet pack data/reading/vp9 data/reading/vp9-packed
    gtdnet bench data data/reading/h264 data/reading/h264-packed --batch_size 2 --num_workers 1
    gtdnet bench data data/reading/vp9 data/reading/vp9-packed --num_videos 24 --num_workers 1

VIDEOS is a folder with three files of the tests of public repositories, which are not part of
gtdnet: mmaction2's demo.mp4, moviepy's chaplin.mp4 and torchcodec's nasa_13013.mp4, 10 to 13
seconds of H.264 each. OUTPUT/h264 holds copies of them. OUTPUT/vp9 holds clips as those of
Something-Something V2 are: of each video eight times four seconds, at 12 frames a second and 240
lines, in VP9 at 176 kbit/s (19.4 GB for 220,847 clips of four seconds).

Both are lists (train.txt, one class for each video), and the same bytes at any time.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

from gtdnet.data.decode import iter_frames, probe
from gtdnet.errors import InputError
from gtdnet.text import say

VIDEOS = ("mmaction2__demo.mp4", "moviepy__chaplin.mp4", "torchcodec__nasa_13013.mp4")
FPS, SECONDS, LINES, BITS_PER_SECOND = 12, 4, 240, 176_000


def make(videos: Sequence[Path], output: Path, clips: int) -> None:
    """Write both datasets under ``output``, whole or not at all.

    Raises:
        ValueError: there is such an output, no clips are asked for, or a video is missing, broken
            or too short.
    """
    if clips < 1:
        raise InputError(f"--clips must be at least 1, got {clips}")
    if output.exists():
        raise InputError(f"{output} exists already; choose another --output, or remove it")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as folder:
        h264, vp9 = Path(folder, "h264"), Path(folder, "vp9")
        h264.mkdir()
        vp9.mkdir()
        lists: dict[Path, list[str]] = {h264: [], vp9: []}
        for label, video in enumerate(videos):
            for number, frames in enumerate(excerpts(video, clips)):
                name = f"{video.stem}-{number}.webm"
                write_vp9(vp9 / name, frames)
                lists[vp9].append(f"{name} {label}")
            shutil.copyfile(video, h264 / video.name)
            lists[h264].append(f"{video.name} {label}")
            say(f"{video.name}: copied, and {clips} clips of {SECONDS} seconds in VP9")
        for data, lines in lists.items():
            (data / "train.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        Path(folder).chmod(0o755)
        Path(folder).rename(output)
        Path(folder).mkdir()  # for the temporary folder's own end


def excerpts(video: Path, clips: int) -> Iterator[list[np.ndarray]]:
    """Of so many parts of the video, spread evenly from its start to its end, the frames at FPS.

    Raises:
        ValueError: it can't be decoded, states no frame rate, or is shorter than SECONDS.
    """
    fps = probe(video).fps
    frames = list(iter_frames(video))
    if not fps or len(frames) < SECONDS * fps:
        raise InputError(f"{video} has no {SECONDS} seconds of video; give a longer one")
    steps = (np.arange(FPS * SECONDS) * fps / FPS).astype(int)
    for start in np.linspace(0, len(frames) - 1 - steps[-1], clips).astype(int):
        yield [frames[index] for index in start + steps]


def write_vp9(path: Path, frames: Sequence[np.ndarray]) -> None:
    """Encode the frames [H, W, 3], reduced to LINES lines."""
    height, width = frames[0].shape[:2]
    options = {"cpu-used": "2", "row-mt": "0"}
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream: Any = container.add_stream("libvpx-vp9", rate=FPS, options=options)
        stream.height, stream.width = LINES, 2 * round(width * LINES / height / 2)
        stream.pix_fmt, stream.bit_rate = "yuv420p", BITS_PER_SECOND
        stream.codec_context.thread_count = 1  # with more, the bytes differ from run to run
        for rgb in frames:
            picture = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            small = picture.reformat(stream.width, LINES, "yuv420p", interpolation="BICUBIC")
            small.pts = None
            container.mux(stream.encode(small))
        container.mux(stream.encode())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--videos", type=Path, required=True, help="folder with the videos")
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    parser.add_argument("--names", nargs="+", default=VIDEOS, help="default: %(default)s")
    parser.add_argument("--clips", type=int, default=8, help="VP9 clips of each video")
    args = parser.parse_args(arguments)
    try:
        make([args.videos / name for name in args.names], args.output, args.clips)
    except InputError as error:
        print(f"benchmarks/reading_data.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
