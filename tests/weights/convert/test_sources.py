"""The table of kinds of checkpoints: documented, and all that a further project needs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from gtdnet.models.build import create_model, model_name, model_options
from gtdnet.models.model_file import load_model
from gtdnet.weights.convert import ConvertOptions, convert
from gtdnet.weights.convert.sources import KINDS, Source

DOCS = Path(__file__).resolve().parents[3] / "docs" / "convert.md"
SOURCES = [kind for kind in KINDS if isinstance(kind, Source)]


def test_the_docs_have_every_source_in_both_tables() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    for name in {source.name for source in SOURCES}:
        assert rows.count(name) == 2, name


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: f"{source.name}-{source.method}")
def test_sources_are_of_models_that_there_are(source: Source) -> None:
    name = model_name(source.method, f"{source.backbone}50")
    assert source.untold.items() <= model_options(name).items()


def test_another_project_is_one_entry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A TANet with biases in its convolutions, keys of its own, and its pixels' mean and std."""
    entry = Source(
        "video-zoo",
        "tanet",
        r"^trunk\.(layer\d\.\d+)\.tam\.adaptive\.spread\.weight$",
        (
            (r"^trunk\.", "backbone."),
            (r"^top\.", "classifier."),
            (r"(layer\d\.\d+)\.tam\.", r"\1.conv2.temporal."),
        ),
        drop=r"^ema\.",
        fold_biases=True,
        pixels="rgb",
        over_time=r"\.temporal\.adaptive\.spread\.weight$",
        spec={"short_side": 232},
    )
    monkeypatch.setattr("gtdnet.weights.convert.recognition.KINDS", (*KINDS, entry))
    torch.manual_seed(0)
    model = create_model("tanet_resnet18", 5, 3)
    tensors = {
        key.replace(".conv2.temporal.", ".tam.")
        .replace("backbone.", "trunk.")
        .replace("classifier.", "top."): value
        for key, value in model.state_dict().items()
    }
    bias = torch.rand(64)
    tensors["trunk.conv1.bias"] = bias
    tensors["trunk.bn1.running_mean"] = tensors["trunk.bn1.running_mean"] + bias
    tensors |= {"ema.decay": torch.ones(1), "rgb.mean": 51 * torch.ones(3)}
    tensors["rgb.std"] = 102 * torch.ones(3)
    torch.save(tensors, tmp_path / "zoo.pth")
    result = convert(ConvertOptions(str(tmp_path / "zoo.pth"), str(tmp_path / "m.safetensors")))
    assert (result.source, result.model, result.num_segments) == ("video-zoo", "tanet_resnet18", 3)
    file = load_model(result.path)
    assert file.spec.mean == pytest.approx((0.2, 0.2, 0.2))
    assert file.spec.std == pytest.approx((0.4, 0.4, 0.4))
    assert file.spec.short_side == 232
    assert file.provenance["dropped"] == ["ema.decay"]
    assert file.provenance["folded"] == ["trunk.conv1.bias"]
    for key, value in model.state_dict().items():
        torch.testing.assert_close(file.model.state_dict()[key], value, msg=key)
