from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gtdnet.data.dataset import Batch, Failure
from gtdnet.data.spec import ClipSpec
from gtdnet.data.transforms import normalise
from gtdnet.errors import InputError
from gtdnet.models.classifier import VideoClassifier
from gtdnet.train.config import OptimOptions
from gtdnet.train.module import TrainingModule

K = 6
SPEC = ClipSpec(tuple("abcdef"), num_segments=2, short_side=4, crop_size=4)


class Means(nn.Module):
    """[N*T, 3, H, W] -> the colours' means [N*T, 3]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


class Given(VideoClassifier):
    """Answers with the logits it is given, one row per clip, in their order."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__(Means(), 3, K, 2)
        self.rows = iter(logits)

    def forward(self, clip: Tensor) -> Tensor:
        return torch.stack([next(self.rows) for _ in clip])


def linear() -> VideoClassifier:
    torch.manual_seed(0)
    model = VideoClassifier(Means(), 3, K, 2, dropout=0.5)
    nn.init.normal_(model.classifier.weight)
    return model


def module(model: VideoClassifier, *, epoch: int = 0, world_size: int = 1, **options: Any) -> Any:
    weights = options.pop("weights", None)
    made = TrainingModule(model, SPEC, OptimOptions(**options), 0.1, seed=4, class_weights=weights)
    trainer = SimpleNamespace(
        current_epoch=epoch,
        global_rank=0,
        world_size=world_size,
        strategy=SimpleNamespace(reduce=lambda tensor, reduce_op: tensor),
    )
    made.trainer = trainer  # type: ignore[assignment]
    made.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    return made


def batch(labels: list[int], failures: int = 0) -> Batch:
    views = torch.randint(0, 256, (len(labels), 1, 2, 3, 4, 4), generator=torch.manual_seed(1))
    return Batch(
        views.to(torch.uint8) if labels else torch.empty(0, dtype=torch.uint8),
        torch.tensor(labels, dtype=torch.int64),
        torch.arange(len(labels)),
        [Failure(100 + i, f"{i}.mp4", "broken") for i in range(failures)],
    )


# ------------------------------------------------------------------------------------ training


def test_loss_is_cross_entropy() -> None:
    logits = torch.randn(4, K, generator=torch.manual_seed(2))
    labels = [0, 3, 3, 5]
    weights = torch.tensor([1.0, 2, 0, 0.5, 1, 3])
    made = module(Given(logits), weights=weights, label_smoothing=0.1)
    loss = made.training_step(batch(labels), 0)
    # Each clip's loss weighed by its class; a tenth of the label is spread over all classes.
    log_p = logits.log_softmax(1)
    picked = sum(-weights[k] * log_p[i, k] for i, k in enumerate(labels))
    spread = -(weights[labels] @ log_p).sum() / K
    expected = (0.9 * picked + 0.1 * spread) / len(labels)
    torch.testing.assert_close(loss, torch.as_tensor(expected))


def test_mixup_mixes_clips_and_labels_alike() -> None:
    model = linear().eval()  # no dropout
    made = module(model, epoch=3, mixup=0.4)
    clips = batch([0, 1, 2, 3])
    loss = made.training_step(clips, 7)
    rng = np.random.default_rng([4, 3, 7, 1])
    share, order = rng.beta(0.4, 0.4), rng.permutation(4)
    assert 0 < share < 1
    x = normalise(clips.views[:, 0], SPEC)
    logits = model(share * x + (1 - share) * x[order])
    truth = F.one_hot(clips.labels, K).float()
    expected = F.cross_entropy(logits, share * truth + (1 - share) * truth[order])
    torch.testing.assert_close(loss, expected)


def test_dropout_depends_on_seed_epoch_and_step_alone() -> None:
    def loss(epoch: int, step: int) -> float:
        made = module(linear().train(), epoch=epoch)
        clips = batch([0, 1, 2, 3])
        made.on_train_batch_start(clips, step)
        return made.training_step(clips, step).item()

    first = loss(1, 2)
    torch.rand(5)  # what ran before does not matter
    assert loss(1, 2) == first
    assert len({first, loss(1, 3), loss(2, 2)}) == 3


def test_epoch_is_summed_up_over_clips() -> None:
    """Batches of 3 and 1: the mean over the clips, not over the batches."""
    hit, miss = torch.eye(K)[0] * 10, torch.eye(K)[1] * 10
    made = module(Given(torch.stack([hit, hit, miss, hit])))
    made.training_step(batch([0, 0, 0]), 0)
    made.training_step(batch([0], failures=2), 1)
    made.sum_up_training()
    right = math.log(1 + (K - 1) * math.exp(-10))
    assert made.epoch_metrics["train_top1"] == 0.75
    assert made.epoch_metrics["train_loss"] == pytest.approx(10 / 4 + right, rel=1e-5)
    assert sorted(made.failures) == [100, 101]


def test_a_batch_of_failures_makes_no_step() -> None:
    made = module(linear())
    assert made.training_step(batch([], failures=2), 0) is None
    with pytest.raises(InputError, match=r"none of the training clips .* 0\.mp4: broken"):
        made.sum_up_training()


def test_other_processes_get_their_gradients_from_a_batch_of_failures() -> None:
    made = module(linear(), world_size=2)
    loss = made.training_step(batch([], failures=2), 0)
    loss.backward()
    for parameter in made.model.parameters():
        assert parameter.grad is not None
        assert not parameter.grad.any()


def test_infinite_loss_is_an_error() -> None:
    made = module(Given(torch.tensor([[math.inf] + [0.0] * (K - 1)])), epoch=2)
    made.training_step(batch([1]), 0)
    with pytest.raises(InputError, match=r"the training loss of epoch 3 is .* lower --lr"):
        made.sum_up_training()


# ---------------------------------------------------------------------------------- validation


def test_validation_metrics() -> None:
    # The true class's place in each answer: 1st, 2nd, 1st, 6th, 1st.
    scores = torch.tensor(
        [
            [9, 5, 4, 3, 2, 1],
            [9, 5, 4, 3, 2, 1],
            [1, 9, 5, 4, 3, 2],
            [5, 9, 4, 3, 2, 1],
            [1, 2, 9, 3, 4, 5],
        ],
        dtype=torch.float32,
    )
    labels = [0, 1, 1, 5, 2]
    made = module(Given(scores), label_smoothing=0.3)  # which is for training alone
    made.on_validation_epoch_start()
    made.validation_step(batch(labels[:3], failures=1), 0)
    made.validation_step(batch([], failures=1), 1)
    made.validation_step(batch(labels[3:]), 2)
    made.on_validation_epoch_end()
    assert made.epoch_metrics == pytest.approx(
        {
            "val_loss": float(F.cross_entropy(scores, torch.tensor(labels))),
            "val_top1": 3 / 5,
            "val_top5": 4 / 5,
            "val_mean_class": (1 + 1 / 2 + 1 + 0) / 4,  # of the classes that have clips
        }
    )
    assert len(made.val_failures) == 1  # by index: the same clip is counted once


def test_validation_without_a_clip_is_an_error() -> None:
    made = module(linear())
    made.on_validation_epoch_start()
    made.validation_step(batch([], failures=1), 0)
    with pytest.raises(InputError, match=r"none of the validation clips .* 0\.mp4: broken"):
        made.on_validation_epoch_end()


# -------------------------------------------------------------------------------- optimisation


@pytest.mark.parametrize(
    ("options", "expected"),
    [  # 20 steps in 10 epochs
        ({"schedule": "step", "milestones": [2, 3]}, [1, 1, 1, 1, 0.1, 0.1, 0.01]),
        ({"schedule": "constant", "warmup_epochs": 1.0}, [1 / 3, 2 / 3, 1, 1]),
        ({"schedule": "onecycle"}, [0.04, 0.131672, 0.371672, 0.668328, 0.908328, 1]),
        ({"schedule": "onecycle", "warmup_epochs": 1.0}, [0.04, 0.52, 1]),
        ({"schedule": "cosine"}, [1, 0.993844]),
    ],
)
def test_schedules_count_epochs_in_steps(options: dict[str, Any], expected: list[float]) -> None:
    made = module(linear(), epochs=10, **options)
    made.trainer.estimated_stepping_batches = 20
    parts = made.configure_optimizers()
    scheduler, group = parts["lr_scheduler"]["scheduler"], parts["optimizer"].param_groups[0]
    assert parts["lr_scheduler"]["interval"] == "step"
    rates = []
    for _ in expected:
        rates.append(group["lr"] / group["initial_lr"])
        parts["optimizer"].step()
        scheduler.step()
    assert rates == pytest.approx(expected, abs=1e-6)


# --------------------------------------------------------------------------------- checkpoints


def test_state_survives_a_checkpoint() -> None:
    made = module(Given(torch.eye(K)[[0, 0]]))
    made.training_step(batch([0, 1], failures=1), 0)
    made.val_failures = {3: Failure(3, "v.mp4", "broken")}
    checkpoint: dict[str, Any] = {}
    made.on_save_checkpoint(checkpoint)
    again = module(linear())
    again.on_load_checkpoint(checkpoint)
    assert again.failures == made.failures
    assert again.val_failures == made.val_failures
    for each in (made, again):
        each.sum_up_training()
    assert again.epoch_metrics == made.epoch_metrics
