"""Model files to ONNX, OpenVINO and torch.export, checked before they get their names."""

from typing import TYPE_CHECKING

from gtdnet import lazy

if TYPE_CHECKING:
    from gtdnet.export.options import ExportOptions
    from gtdnet.export.run import ExportFailed, export

__all__ = ["ExportFailed", "ExportOptions", "export"]

__getattr__ = lazy.names(
    __name__,
    {
        "ExportFailed": "run",
        "ExportOptions": "options",
        "export": "run",
    },
)
