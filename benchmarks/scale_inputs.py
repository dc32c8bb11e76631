"""What benchmarks/scale.py takes from benchmarks/results, and what it assumes beside that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from gtdnet.errors import InputError, check_at_least, check_between, check_positive
from gtdnet.files import read_yaml

RESULTS = Path(__file__).resolve().parent / "results"
FILES = (
    "speed_engines",
    "speed_eager",
    "speed_reading_h264",
    "speed_reading_vp9",
    "speed_training",
    "speed_training_batch4",
    "threads",
    "predict",
    "bulk",
    "pack_quality",
    "complexity",
)
VP9_KB = 176_000 * 4 / 8 / 1000
"""Of a clip of speed_reading_vp9: 4 s at 176 kbit/s (benchmarks/reading_data.py)."""


def assumed(value: float, what: str) -> Any:
    return field(default=value, metadata={"what": what})


@dataclass(frozen=True)
class Assumptions:
    """What nobody has measured, each with its value; all are options of the script."""

    machines: int = assumed(100, "machines")
    cores: int = assumed(16, "cores of each, and processes; each as fast as one was alone")
    clips: int = assumed(1_000_000_000, "clips")
    block_size: int = assumed(10_000, "clips in a block, which is a file of answers")
    spread: float = assumed(0.5, "standard deviation of a clip's time, as a share of it")
    worker_start_s: float = assumed(20, "s until a process has the model")
    shard_s: float = assumed(0.2, "s to write a shard")
    dispatch_s: float = assumed(0.01, "s of the driver for a block")
    footer_s: float = assumed(0.001, "s of a driver that goes on, for a shard (docs/bulk.md)")
    mtbf_h: float = assumed(720, "h between two failures of a machine")
    repair_s: float = assumed(600, "s until it is back")
    driver_mtbf_h: float = assumed(720, "h between two failures of the driver")
    driver_restart_s: float = assumed(1800, "s until somebody gives the command again")
    slow_share: float = assumed(0.05, "of the machines are slow")
    slow_times: float = assumed(1.5, "times as long is what they take")
    mb_per_s: float = assumed(1000, "MB/s of a machine from the object store")
    latency_s: float = assumed(0.03, "s of waiting for a clip's first byte")

    def check(self) -> None:
        """Raise InputError for what makes no sense."""
        check_at_least(
            1,
            machines=self.machines,
            cores=self.cores,
            clips=self.clips,
            block_size=self.block_size,
        )
        check_positive(
            mtbf_h=self.mtbf_h,
            driver_mtbf_h=self.driver_mtbf_h,
            mb_per_s=self.mb_per_s,
            slow_times=self.slow_times,
        )
        check_between(0, 1, slow_share=self.slow_share)

    def told(self) -> list[dict[str, Any]]:
        values = asdict(self)
        return [
            {"name": f.name, "value": values[f.name], "what": f.metadata["what"]}
            for f in fields(self)
        ]


@dataclass(frozen=True)
class Measured:
    """The figures of the files, CPU ms of one core for a clip.

    Attributes:
        files: all that was read, by name.
        networks: by "model, engine, precision".
        gmacs: of the networks' models.
        reading: by data ("H.264, 10 s", ...) and view ("train", "test"): stages.
        clip_mb: by data: what is fetched of a clip, of packs eight pictures.
    """

    files: Mapping[str, Any]
    networks: Mapping[str, float]
    gmacs: Mapping[str, float]
    reading: Mapping[str, Mapping[str, Mapping[str, float]]]
    clip_mb: Mapping[str, float]


H264, VP9 = "H.264, 10 s", "VP9, 4 s"
PACKED = {H264: "H.264, 10 s, packed", VP9: "VP9, 4 s, packed"}


def read(folder: Path = RESULTS) -> Measured:
    """The figures.

    Raises:
        InputError: a file is missing, or lacks something.
    """
    files = {}
    for name in FILES:
        path = folder / f"{name}.yaml"
        if not path.is_file():
            raise InputError(f"{path} is missing; its command is in docs/results.md")
        files[name] = read_yaml(path)
    try:
        return _measured(files)
    except (KeyError, TypeError, StopIteration) as error:
        raise InputError(
            f"the files in {folder} lack {error}; write them by their commands"
        ) from error


def _measured(files: Mapping[str, Any]) -> Measured:
    networks: dict[str, float] = {}
    gmacs: dict[str, float] = {}
    for case in files["speed_engines"]["cases"] + files["speed_eager"]["cases"]:
        if case["engine"] == "plain" or case["layout"] == "nchw":
            continue  # forms that only comparisons run
        name = f"{case['model']}, {case['engine']}, {case['precision']}"
        networks[name] = float(case["cpu_ms"])
        gmacs[case["model"]] = float(case["gmacs"])
    reading: dict[str, dict[str, dict[str, float]]] = {}
    for data, file in ((H264, "speed_reading_h264"), (VP9, "speed_reading_vp9")):
        for stage in files[file]["stages"]:
            name = PACKED[data] if stage["data"].endswith("-packed") else data
            views = reading.setdefault(name, {}).setdefault(stage["view"], {})
            views[stage["stage"]] = float(stage["cpu_ms"])
    packs = files["pack_quality"]["packed"]
    pack = next(p for p in packs if p["data"] == "data/mmaction2" and p["quality"] == 90)
    pictures = 8 * pack["kB_per_frame"] / 1000
    clip_mb = {
        H264: pack["kB_per_clip"] / pack["times_originals"] / 1000,
        PACKED[H264]: pictures,
        VP9: VP9_KB / 1000,
        PACKED[VP9]: pictures,
    }
    return Measured(files, networks, gmacs, reading, clip_mb)
