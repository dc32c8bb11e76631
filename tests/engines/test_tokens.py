"""Networks of tokens with temporal modules, as graphs: what PyTorch computes, for any batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from specimens import FOUND
from torch import nn

from gtdnet.engines.deploy import deployable
from gtdnet.models.classifier import VideoClassifier
from gtdnet.nn import GlobalTemporalDifference, TemporalShift, insert_temporal

T = 4


@pytest.mark.parametrize("family", ["ViT of torchvision", "Swin of torchvision"])
def test_graphs_compute_the_same(family: str, tmp_path: Path) -> None:
    ort, openvino = pytest.importorskip("onnxruntime"), pytest.importorskip("openvino")
    torch.manual_seed(0)
    network = FOUND[family][0]()
    insert_temporal(
        network,
        lambda c: nn.Sequential(TemporalShift(T, 4), GlobalTemporalDifference(c, T)),
    )
    model = VideoClassifier(network, 5, 3, T).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.1, 0.3)
    shapes = ({0: torch.export.Dim("batch")},)
    x, more = torch.randn(2, T, 3, 32, 32), torch.randn(3, T, 3, 32, 32)
    with torch.no_grad():
        wanted = model(more)
        program = torch.export.export(deployable(model), (x,), dynamic_shapes=shapes, strict=False)
        torch.testing.assert_close(program.module()(more), wanted, rtol=1e-4, atol=1e-4)
        exported = torch.onnx.export(program, dynamo=True, verbose=False)
    path = str(tmp_path / "network.onnx")
    assert exported is not None
    exported.save(path)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: more.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), wanted, rtol=1e-4, atol=1e-4)
    compiled = openvino.Core().compile_model(
        openvino.convert_model(program), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    logits = torch.from_numpy(compiled(more.numpy())[0])
    torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-4)
