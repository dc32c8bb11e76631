"""What is computed in int8: convolutions, and linear maps of tokens; not gates and classifiers."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from specimens import FOUND
from torch import nn

from gtdnet.data.spec import ClipSpec
from gtdnet.engines import Choice, example_clips
from gtdnet.engines.openvino import OpenVinoEngine, quantise, to_openvino
from gtdnet.models.classifier import VideoClassifier
from gtdnet.nn import GlobalTemporalDifference, TemporalShift, insert_temporal

if not all(map(find_spec, ("openvino", "nncf"))):
    pytest.skip("the extra 'export' is not installed", allow_module_level=True)

T = 4
SPEC = ClipSpec(tuple("abcde"), T, short_side=32, crop_size=32)


def test_linear_maps_of_tokens_but_not_of_gates() -> None:
    torch.manual_seed(0)
    network = FOUND["ViT of timm, DINOv2"][0]()
    insert_temporal(
        network, lambda c: nn.Sequential(TemporalShift(T, 4), GlobalTemporalDifference(c, T))
    )
    with torch.no_grad():
        for block in network.blocks:  # type: ignore[union-attr]
            block.norm1.weight[0] = block.norm2.weight[0] = 30  # a channel far beyond the others
    model = VideoClassifier(network, 5, 5, T).eval()
    clips = example_clips(SPEC, 4)
    graph = to_openvino(model, SPEC)
    exact = OpenVinoEngine(graph.clone(), Choice("openvino", torch.device("cpu"), "fp32"))
    quantised = quantise(graph, clips)

    def is_int8(operation: object) -> bool:
        source = operation.inputs()[0].get_source_output()  # type: ignore[attr-defined]
        return source.get_node().get_type_name() == "FakeQuantize"

    maps = [op for op in quantised.get_ordered_ops() if op.get_type_name() == "MatMul"]
    found = {op.get_friendly_name().partition("/")[0] for op in maps if is_int8(op)}
    own = "__module.model.backbone"
    wanted = {f"{own}.blocks.{i}.attn.{name}" for i in (0, 1) for name in ("qkv", "proj")}
    wanted |= {f"{own}.blocks.0.mlp.{i}" for i in (0, 2)}
    wanted |= {f"{own}.blocks.1.mlp.{name}" for name in ("w12", "w3")} | {f"{own}.head"}
    assert found == wanted
    assert len(maps) > len(found) + 4 * 6  # the gates' maps

    built = OpenVinoEngine(quantised, Choice("openvino", torch.device("cpu"), "int8"))
    wanted_logits = exact.logits(clips)
    difference = (built.logits(clips) - wanted_logits).abs().max() / wanted_logits.std()
    assert 1e-3 < float(difference) < 0.5
