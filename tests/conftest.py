"""One thread: on the small networks of the tests, threads cost more than they bring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from gtdnet.models import VideoClassifier, create_model
from gtdnet.models.res2net import Res2Net, Res2NetBlock
from gtdnet.models.resnet import BasicBlock, ResNet

torch.set_num_threads(1)


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
                elif value.ndim == 1 and key.endswith("weight"):
                    value.uniform_(0.5, 1.0, generator=generator)
                elif value.is_floating_point():
                    value.add_(0.05 * torch.randn(value.shape, generator=generator))
        return model

    return make
