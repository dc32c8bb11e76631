"""What several processes compute as one would."""

from __future__ import annotations

import torch
from torch import nn

from gtdnet.train.across import share_dropout


def test_dropout_draws_as_one_process_with_all_clips_does() -> None:
    x = torch.randn(6, 2, 5)
    torch.manual_seed(4)
    whole = nn.Dropout(0.5)(x)
    assert 0 < int((whole == 0).sum()) < whole.numel()
    for rank in range(3):
        model = nn.Sequential(nn.Dropout(0.5))
        share_dropout(model, rank, 3)
        torch.manual_seed(4)
        part = slice(2 * rank, 2 * rank + 2)
        assert torch.equal(model(x[part]), whole[part])
        assert torch.equal(model.eval()(x[part]), x[part])
