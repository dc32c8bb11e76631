"""How version-0.1.0.tar.xz was made: files of every kind, written by that version's own code.

    python tests/files/make_0_1_0.py FOLDER

Weights take one of four values, so that they compress. The answers in expected.json are that
version's; it says on what it ran.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

import gtdnet
from gtdnet.cli import main
from gtdnet.data.spec import ClipSpec
from gtdnet.models import create_model, load_model, save_model

MODELS = {
    "gtdnet": ("gtdnet_resnet18", {}),
    "gtdnet-lstm": ("gtdnet_resnet18", {"aggregation": "lstm", "gtd_stages": [4, 5]}),
    "gtdnet-bilstm": ("gtdnet_resnet18", {"aggregation": "bilstm", "attention": False, "every": 2}),
    "gtdnet-local": ("gtdnet_resnet18", {"difference": "local", "fold_div": 0, "stages": [3, 5]}),
    "gtdnet-avg": ("gtdnet_resnet18", {"aggregation": "avg", "gate": False, "reduction": 8}),
    "action": ("action_resnet18", {}),
    "tanet": ("tanet_resnet18", {}),
    "tdn": ("tdn_resnet18", {}),
    "tea": ("tea_resnet50", {}),
    "teinet": ("teinet_resnet18", {}),
    "tsm": ("tsm_resnet18", {"fold_div": 4}),
    "tsn": ("tsn_resnet18", {}),
}
T, SIDE = 4, 32


def pattern(n: int, frames: int, side: int = SIDE) -> Tensor:
    """Clips that arithmetic alone makes: uint8 [n, frames, 3, side, side]."""
    i = torch.arange(n * frames * 3 * side * side)
    return (i * 37 % 251 * (i // 1009 % 7) % 256).to(torch.uint8).view(n, frames, 3, side, side)


def coarse(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(7)
    for key, value in model.state_dict().items():
        if not value.is_floating_point():
            continue
        if key.endswith("running_var"):
            value.fill_(1.0)
        elif value.ndim < 2 and key.endswith("weight"):
            value.fill_(0.75)
        elif value.ndim < 2:
            value.copy_((torch.randint(-2, 3, value.shape, generator=generator)) / 8)
        else:
            choices = torch.tensor([-2.0, -1.0, 1.0, 2.0]) / 32
            value.copy_(choices[torch.randint(0, 4, value.shape, generator=generator)])


def make() -> None:
    folder = Path()
    expected: dict[str, object] = {
        "versions": {"gtdnet": gtdnet.__version__, "torch": torch.__version__},
        "logits": {},
        "logits_at_8": {},
    }
    names = ("moving [something] up", "left", "right", "up", "turning left")
    for label, (name, options) in MODELS.items():
        torch.manual_seed(0)
        model = create_model(name, len(names), T, width=0.125, **options).eval()
        coarse(model)
        spec = ClipSpec(
            names,
            num_segments=T,
            short_side=36,
            crop_size=SIDE,
            frames_per_segment=model.frames_per_segment,
        )
        path = folder / "models" / f"{label}.safetensors"
        save_model(path, model, spec, provenance={"data": "none"}, metrics={"val_top1": 0.5})
        for key, frames in (("logits", None), ("logits_at_8", 8)):
            file = load_model(path, num_segments=frames)
            clip = pattern(2, file.model.num_segments * file.model.frames_per_segment) / 127.5 - 1
            with torch.no_grad():
                expected[key][label] = file.model(clip).tolist()  # type: ignore[index]
    data, start = folder / "data", folder / "start.safetensors"
    run(f"synth {data} --format folder --edition easy --train 12 --validation 6 --size 36 --seed 1")
    classes = tuple(sorted(path.name for path in (data / "train").iterdir()))
    model = create_model("gtdnet_resnet18", len(classes), T, width=0.125)
    coarse(model)
    save_model(start, model, ClipSpec(classes, num_segments=T, short_side=36, crop_size=SIDE))
    run(
        f"train --data {data} --output {folder} --name run --model gtdnet_resnet18 "
        f"--init_from {start} --num_segments {T} --short_side 36 --crop_size {SIDE} --epochs 2 "
        f"--batch_size 4 --momentum 0 --lr 1e-30 --weight_decay 0 --clip_gradient 0 "
        f"--device cpu --precision fp32 --num_workers 0 --seed 5"
    )
    # As if it had been stopped after its first epoch, which is the best one of two equal ones.
    shutil.copytree(folder / "run", folder / "stopped")
    shutil.copy(folder / "stopped/best.ckpt", folder / "stopped/last.ckpt")
    run(f"pack {data} {folder / 'pack'} --workers 1")
    run(f"check {data} --manifest {data / 'good.json'}")
    run(f"evaluate {folder / 'run/model.safetensors'} --data {data} --clips 2 --crops 3 "
        f"--output {folder / 'evaluation'} --device cpu --num_workers 0")  # fmt: skip
    run(f"export {folder / 'run/model.safetensors'} {folder / 'exported'}")
    trained = load_model(folder / "run/model.safetensors").model
    with torch.no_grad():
        expected["logits"]["run"] = trained(pattern(2, T) / 127.5 - 1).tolist()  # type: ignore[index]
    metrics = json.loads((folder / "evaluation/metrics.json").read_text(encoding="utf-8"))
    expected["evaluation"] = {"top1": metrics["top1"], "protocol": metrics["protocol"]}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1), encoding="utf-8")
    for path in (start, folder / "exported/model.pt2"):  # what is not read again
        path.unlink()


def run(line: str) -> None:
    if code := main(line.split()):
        raise SystemExit(f"gtdnet {line}: {code}")


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(parents=True)
    os.chdir(sys.argv[1])
    make()
