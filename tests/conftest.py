"""What many tests share. One thread: on small networks, threads cost more than they bring."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from gtdnet import workers
from gtdnet.data.spec import ClipSpec
from gtdnet.data.synthetic import write_dataset
from gtdnet.models import VideoClassifier, create_model, save_model
from gtdnet.models.backbones.convnext import ConvNeXt
from gtdnet.models.backbones.res2net import Res2Net, Res2NetBlock
from gtdnet.models.backbones.resnet import BasicBlock, ResNet
from gtdnet.models.backbones.vit import VisionTransformer
from gtdnet.train.config import TrainConfig

if threading.current_thread() is threading.main_thread():
    # Jobs in the background of a shell ignore Ctrl-C, and so would all that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the command line and of processes


@pytest.fixture(autouse=True)
def no_modules_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """New processes would import what a test before this one gave with --import."""
    monkeypatch.setattr(workers, "_registering", [])


@pytest.fixture(scope="session")
def load_script() -> Callable[[str], ModuleType]:
    """Makes a module of benchmarks/NAME.py, as if it were run: it finds its neighbours."""
    folder = Path(__file__).resolve().parents[1] / "benchmarks"

    def load(name: str) -> ModuleType:
        found = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        assert found and found.loader
        module = importlib.util.module_from_spec(found)
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(folder)
            patch.setitem(sys.modules, name, module)  # dataclasses look there
            found.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., VideoClassifier]:
    """Makes a named model of 5 classes, 4 frames and few channels, with numbers as after training.

    ``shallow`` leaves one block per stage (of depth 18; of a Res2Net-50 also one that is not the
    first of its stage), for what takes long with a whole network; its model file cannot be read.
    """

    def make(name: str, *, shallow: bool = False, **options: Any) -> VideoClassifier:
        torch.manual_seed(0)
        with pytest.MonkeyPatch.context() as patch:
            if shallow:
                patch.setattr(ResNet, "layouts", {18: (BasicBlock, (1, 1, 1, 1))})
                patch.setattr(Res2Net, "layouts", {50: (Res2NetBlock, (1, 1, 1, 2))})
                channels = ConvNeXt.sizes["tiny"].channels
                patch.setattr(ConvNeXt, "sizes", {"tiny": ((1, 1, 1, 1), channels)})
                patch.setattr(VisionTransformer, "sizes", {"small": (4, 6)})
            model = create_model(name, 5, 4, **{"width": 0.125, **options}).eval()
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for key, value in model.state_dict().items():
                if key.endswith("running_var"):
                    value.uniform_(0.5, 1.5, generator=generator)
                elif key.endswith("running_mean"):
                    value.normal_(std=0.1, generator=generator)
                elif key.startswith("classifier."):
                    value.normal_(std=0.3, generator=generator)
                elif key.endswith(("gamma", "layer_scale")) or (
                    value.ndim == 1 and key.endswith("weight")
                ):
                    value.uniform_(0.5, 1.0, generator=generator)
                elif value.is_floating_point():
                    value.add_(0.05 * torch.randn(value.shape, generator=generator))
        return model

    return make


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of a tiny GTDNet with 6 classes and scores that differ."""
    torch.manual_seed(0)
    model = create_model("gtdnet_resnet18", 6, 4, width=0.125)
    nn.init.normal_(model.classifier.weight, std=0.5)
    spec = ClipSpec(tuple("abcdef"), num_segments=4, short_side=36, crop_size=32)
    folder = tmp_path_factory.mktemp("model")
    return save_model(folder / "model.safetensors", model, spec, metrics={"top1": 0.5})


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """13 training clips (four batches of 3, one clip over) and 5 validation clips."""
    root = tmp_path_factory.mktemp("data") / "easy"
    write_dataset(root, format="folder", edition="easy", train=13, validation=5, size=36, workers=1)
    return root


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose modules all processes can import that are started from now on."""
    folder = tmp_path_factory.mktemp("plugins")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        patch.syspath_prepend(str(folder))
        yield folder


@pytest.fixture(scope="module")
def ray_cluster(plugins: Path) -> Iterator[None]:
    """One for all tests of a file, for each takes seconds to start."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: tests/with_ray.sh")
    from gtdnet.spread.on_ray import _ENVIRONMENT  # importable without Ray

    os.environ.update(_ENVIRONMENT)
    ray.init("local", num_cpus=3, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def actors() -> Callable[[], list[int]]:
    """Tells which processes are actors of ours, in the Ray cluster that this one has started."""
    return _actors


def _actors() -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"ray::MapWorker(MapBatches(_Actor))" in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return [process for process in found if os.getpid() in _above(process)]


def _above(process: int) -> list[int]:
    """The parents of a process, up to the first."""
    above = []
    while process > 1:
        try:
            stat = Path(f"/proc/{process}/stat").read_text()
        except OSError:
            break
        process = int(stat.rpartition(")")[2].split()[1])
        above.append(process)
    return above


COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multi-label table: 24 training and 16 validation clips of 8 pictures.

    A clip has any number of three classes, each a channel that is bright; green is rarer.
    """
    root = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(0)
    rows = ["path,labels,split"]
    for number in range(40):
        has = [number % 2 > 0, number % 8 < 3, number % 4 < 2]
        pixels = rng.integers(0, 60, (8, 36, 36, 3)) + 150 * np.array(has)
        (root / f"{number:02}").mkdir()
        for frame, picture in enumerate(pixels.astype(np.uint8)):
            Image.fromarray(picture).save(root / f"{number:02}" / f"{frame:02}.png")
        names = ";".join(name for name, there in zip(COLOURS, has, strict=True) if there)
        rows.append(f"{number:02},{names},{'train' if number < 24 else 'val'}")
    (root / "clips.csv").write_text("\n".join(rows))
    return root / "clips.csv"


@pytest.fixture(scope="session")
def tiny(dataset: Path) -> Callable[..., TrainConfig]:
    """A config of 2 epochs of 4 steps on the dataset; keywords change options."""

    def make(output: Path, **options: Any) -> TrainConfig:
        values: dict[str, Any] = {
            "data": str(dataset),
            "output": str(output),
            "name": "run",
            "seed": 3,
            "model": "gtdnet_resnet18",
            "model_options": {"width": 0.125},
            "num_segments": 4,
            "short_side": 36,
            "crop_size": 32,
            "brightness": 0.1,
            "epochs": 2,
            "batch_size": 3,
            "num_workers": 0,
            "lr": 0.02,
            "lr_batch": 0,
            "warmup_epochs": 0.5,
            "device": "cpu",
            "precision": "fp32",
        }
        return TrainConfig(**{**values, **options})

    return make
