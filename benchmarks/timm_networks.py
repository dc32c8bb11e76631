"""Networks of timm under GTDNet: where modules go, and whether all that should be equal is.

    tests/with_timm.sh FOLDER python benchmarks/timm_networks.py [NAME ...]

Each network gets numbers as after training from a file of timm's own keys. Written down is the
largest difference, in units of the largest number that is compared, of

- features: of tsn_timm/NAME from those before timm's own classifier;
- identity: of a fresh gtdnet_timm/NAME from tsm_timm/NAME;
- shift: of tsn_timm/NAME from it, which should not be small: the modules do something;
- file: of a model that was saved and loaded again from itself;
- onnx: of some the ONNX file, run by ONNX Runtime, in units of the logits' spread, as gtdnet
  export has it;

or the sentence that refuses the network. No weights, no data and no timing, so any machine will do.
They go to benchmarks/results/timm.yaml, and from there to docs/results.md.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from gtdnet import ClipSpec, create_model, load_model, save_model
from gtdnet.bench.result import envelope
from gtdnet.errors import InputError
from gtdnet.export import ExportOptions, export
from gtdnet.files import write_yaml
from gtdnet.models.build import model_options, spec_values

RESULTS = Path(__file__).parent / "results" / "timm.yaml"
T, K, SIZE = 2, 5, 96
NETWORKS = (
    "resnet18", "resnetv2_50", "regnety_004", "regnety_008", "mobilenetv2_100",
    "mobilenetv3_small_100", "mobilenetv4_conv_small", "efficientnet_b0", "tf_efficientnet_lite0",
    "ghostnet_100", "convnext_atto", "convnextv2_atto", "edgenext_xx_small", "fastvit_t8",
    "swin_tiny_patch4_window7_224", "deit_tiny_patch16_224", "vit_small_patch14_dinov2",
    "efficientformer_l1", "hiera_tiny_224", "resnetv2_50x1_bit", "swinv2_tiny_window8_256",
    "mobilevit_xxs", "repvgg_a0", "densenet121", "pvt_v2_b0", "poolformer_s12", "dla34",
    "efficientvit_b0", "eva02_tiny_patch14_224", "rexnet_100", "res2net50_26w_4s",
)  # fmt: skip
EXPORTED = (
    "resnet18",
    "regnety_004",
    "mobilenetv3_small_100",
    "convnext_atto",
    "deit_tiny_patch16_224",
)
"""Those that ONNX files are made of, which takes longer than all else."""


def as_trained(network: nn.Module) -> dict[str, Tensor]:
    """Its weights, none of them at the 0 with which many branches start, so that all count."""
    generator = torch.Generator().manual_seed(3)
    for key, value in network.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif key.endswith("running_mean"):
            value.normal_(0, 0.2, generator=generator)
        elif value.squeeze().ndim == 1 and not key.endswith("bias"):  # of norms, layer scale
            value.uniform_(0.5, 1.0, generator=generator)
    return {key: value.contiguous() for key, value in network.state_dict().items()}


@torch.no_grad()
def check(name: str, folder: Path) -> dict[str, Any]:
    """All that is written down of one network; InputError where it is refused."""
    import timm  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    kind = f"timm/{name}"
    own = timm.create_model(name).eval()
    weights = folder / f"{name}.safetensors"
    save_file(as_trained(own), weights)
    models = {
        method: create_model(f"{method}_{kind}", K, T, pretrained=weights).eval()
        for method in ("tsn", "tsm", "gtdnet")
    }
    head = models["gtdnet"].classifier
    head.weight.normal_()
    models["tsm"].classifier.load_state_dict(head.state_dict())
    size = model_options(f"tsn_{kind}").get("image_size", SIZE)
    clip = torch.randn(1, T, 3, size, size, generator=torch.Generator().manual_seed(1))
    network: Any = models["gtdnet"].backbone
    blocks = network.residual_blocks()
    found: dict[str, Any] = {
        "m_parameters": round(sum(p.numel() for p in own.parameters()) / 1e6, 2),
        "modules": len(blocks),
        "first": blocks[0].branch[0].removeprefix("network."),
        "stages": {s: sum(block.stage == s for block in blocks) for s in network.stages},
        "size": size,
    }
    if own.pretrained_cfg["input_size"][1] == size or not own.pretrained_cfg["fixed_input_size"]:
        wanted = own.forward_head(own.forward_features(clip[0]), pre_logits=True)
        found["features"] = difference(models["tsn"].forward_features(clip)[0], wanted)
    logits = models["gtdnet"](clip)
    found["identity"] = difference(logits, models["tsm"](clip))
    models["tsn"].classifier.load_state_dict(head.state_dict())
    found["shift"] = difference(models["tsn"](clip), logits)
    spec = ClipSpec(
        tuple(f"class {i}" for i in range(K)), T, short_side=size, crop_size=size,
        **spec_values(f"gtdnet_{kind}"),
    )  # fmt: skip
    path = save_model(folder / "model.safetensors", models["gtdnet"], spec)
    found["file"] = difference(load_model(path).model(clip), logits)
    if name not in EXPORTED:
        return found
    exported = export(ExportOptions(model=str(path), output=str(folder / name), formats="onnx"))
    found["onnx"] = float(f"{exported['formats'][0]['relative_difference']:.1e}")
    return found


def difference(found: Tensor, wanted: Tensor) -> float:
    return float(f"{float((found - wanted).abs().max() / wanted.abs().max()):.1e}")


def main() -> None:
    torch.set_num_threads(1)
    names = sys.argv[1:] or NETWORKS
    packages = ("torch", "torchvision", "timm", "onnxruntime")
    result = envelope(
        "timm",
        "Networks of timm",
        "tests/with_timm.sh FOLDER python benchmarks/timm_networks.py",
        torch.device("cpu"),
        packages,
    )
    networks = result["networks"] = {}
    if sys.argv[1:] and RESULTS.is_file():  # some of them anew
        networks.update(yaml.safe_load(RESULTS.read_text(encoding="utf-8"))["networks"])
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            try:
                networks[name] = check(name, Path(folder))
            except InputError as error:
                networks[name] = {"refused": str(error)}
        print(name, networks[name], flush=True)
        write_yaml(RESULTS, result)


if __name__ == "__main__":
    main()
