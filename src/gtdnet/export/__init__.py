"""Model files to ONNX, OpenVINO and torch.export, checked before they get their names."""

from gtdnet.export.run import ExportFailed, ExportOptions, export

__all__ = ["ExportFailed", "ExportOptions", "export"]
