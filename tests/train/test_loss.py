"""The loss against its formula: a clip counts weight x cross entropy / clips of a step."""

from __future__ import annotations

import io
import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from gtdnet.data.dataset import Batch, Failure
from gtdnet.data.spec import ClipSpec
from gtdnet.data.transforms import normalise
from gtdnet.models.build import create_model
from gtdnet.models.classifier import VideoClassifier
from gtdnet.train.callbacks import load_weights
from gtdnet.train.config import OptimOptions, TrainConfig
from gtdnet.train.module import TrainingModule
from gtdnet.train.run import train

Make = Callable[..., TrainConfig]

K = 5
SPEC = ClipSpec(tuple("abcde"), num_segments=2, short_side=4, crop_size=4)
WEIGHTS = torch.tensor([4.0, 0.5, 0.1, 1, 2])


class Means(nn.Module):
    """[N*T, 3, H, W] -> the colours' means [N*T, 3]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


def module(weights: Tensor | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    model = VideoClassifier(Means(), 3, K, 2).eval()  # no dropout
    nn.init.normal_(model.classifier.weight)
    made = TrainingModule(model, SPEC, OptimOptions(**options), 0.1, seed=4, class_weights=weights)
    made.trainer = SimpleNamespace(  # type: ignore[assignment]
        current_epoch=0,
        global_rank=0,
        world_size=1,
        strategy=SimpleNamespace(reduce=lambda tensor, reduce_op: tensor),
    )
    made.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    return made


def batch(labels: list[int], failures: int) -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = torch.randint(0, 256, (len(labels), 1, 2, 3, 4, 4), generator=generator)
    lost = [Failure(100 + i, f"{i}.mp4", "broken") for i in range(failures)]
    return Batch(views.byte(), torch.tensor(labels), torch.arange(len(labels)), lost)


@pytest.mark.parametrize(
    ("weights", "smoothing", "mixup", "failures"),
    list(itertools.product([None, WEIGHTS], [0.0, 0.2], [0.0, 0.4], [0, 3])),
)
def test_every_combination(
    weights: Tensor | None, smoothing: float, mixup: float, failures: int
) -> None:
    made = module(weights, label_smoothing=smoothing, mixup=mixup)
    clips = batch([0, 2, 2, 4, 1], failures)
    loss = made.training_step(clips, 7)

    rng = np.random.default_rng([4, 0, 7, 1])
    share, order = (float(rng.beta(mixup, mixup)), rng.permutation(5)) if mixup else (1.0, range(5))
    x = normalise(clips.views[:, 0], SPEC)
    log_p = made.model(torch.lerp(x, x[list(order)], 1 - share)).log_softmax(1)
    expected = torch.zeros(())
    for i, j in enumerate(order):
        target = torch.full((K,), smoothing / K)
        weight = 0.0
        for label, part in ((clips.labels[i], share), (clips.labels[j], 1 - share)):
            target[label] += (1 - smoothing) * part
            weight += part * float(weights[label]) if weights is not None else part
        expected = expected - weight * (target * log_p[i]).sum()
    torch.testing.assert_close(loss, expected / (5 + failures))
    # What the epoch reports is the mean over the clips that were there.
    made.sum_up_training()
    assert made.epoch_metrics["train_loss"] == pytest.approx(float(expected.detach()) / 5)


def test_a_clip_counts_alike_whatever_lies_beside_it() -> None:
    """Weights that a batch's own mean divides by cancel where a batch is one clip."""
    losses = [module(w).training_step(batch([0], 0), 0).item() for w in (None, WEIGHTS)]
    assert losses[1] == pytest.approx(4 * losses[0])


def test_a_step_in_the_making_waits_for_a_batch_of_failures() -> None:
    """Lightning leaves a step out in fp16 if its last batch has no loss."""
    made = module(accumulate=2)
    made.training_step(batch([1], 0), 0).backward()
    before = [p.grad.clone() for p in made.model.parameters()]
    made.training_step(batch([], 1), 1).backward()
    assert all(torch.equal(p.grad, b) for p, b in zip(made.model.parameters(), before, strict=True))
    assert made.training_step(batch([], 1), 2) is None  # no gradients of this step yet


# ------------------------------------------------------------------------------- with a trainer


def run(config: TrainConfig) -> Path:
    return train(config, console=Console(file=io.StringIO())).folder


@pytest.fixture
def unequal(dataset: Path, tmp_path: Path) -> Path:
    """Ten training clips of two classes, one of them damaged, and no validation split."""
    for i, path in enumerate(sorted((dataset / "train").glob("*/*.mp4"))[:10]):
        copy = tmp_path / "data" / "train" / ("rare" if i < 2 else "common") / f"{i}.mp4"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        if i == 5:
            copy.write_text("not a video")
    return tmp_path / "data"


def test_accumulated_batches_are_one_big_batch(unequal: Path, tiny: Make, tmp_path: Path) -> None:
    """Batches of one clip, some of them unreadable, and of five: equal to rounding."""
    plain = tmp_path / "plain.pth"
    torch.save(create_model("tsn_resnet18", 2, 4, width=0.125).state_dict(), plain)
    options: dict[str, Any] = {
        "data": str(unequal), "pretrained": str(plain), "freeze": "norms", "dropout": 0.0,
        "label_smoothing": 0.1, "epochs": 1, "warmup_epochs": 0.0,
    }  # fmt: skip
    weights: dict[tuple[int, bool], dict[str, Tensor]] = {}
    for size, weighted in [(1, True), (5, True), (5, False)]:
        batches = {"batch_size": size, "accumulate": 5 // size, "class_weights": weighted}
        folder = run(tiny(tmp_path, name=f"{size}{weighted}", **batches, **options))
        weights[size, weighted] = load_weights(folder / "last.ckpt")
    key = "classifier.weight"
    for name, value in weights[1, True].items():
        torch.testing.assert_close(value, weights[5, True][name], rtol=1e-4, atol=1e-6, msg=name)
    assert not torch.allclose(weights[5, True][key], weights[5, False][key], rtol=1e-3, atol=1e-5)


def test_the_last_incomplete_step_weighs_its_clips_as_the_others_do(
    unequal: Path, tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def note(self: TrainingModule, optimizer: torch.optim.Optimizer) -> None:
        grad = self.model.classifier.weight.grad
        seen.append(torch.zeros(()) if grad is None else grad.clone())

    monkeypatch.setattr(TrainingModule, "on_before_optimizer_step", note)
    options: dict[str, Any] = {
        "data": str(unequal), "batch_size": 1, "class_weights": True, "dropout": 0.0,
        "lr": 1e-20, "clip_gradient": 0.0, "epochs": 1,
    }  # fmt: skip
    for steps in (1, 4):
        run(tiny(tmp_path, name=f"by{steps}", accumulate=steps, **options))
    alone, together = seen[:10], seen[10:]
    assert len(together) == 3  # of 4, 4 and 2 clips
    for i, step in enumerate(together):
        expected = torch.stack([g.expand_as(step) for g in alone[4 * i : 4 * i + 4]]).sum(0) / 4
        torch.testing.assert_close(step, expected)
