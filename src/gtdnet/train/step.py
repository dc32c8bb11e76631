"""One training step without a trainer, for those who measure it."""

from __future__ import annotations

import torch

from gtdnet.data.dataset import Batch
from gtdnet.device import autocast, resolve_device, resolve_precision, to_channels_last
from gtdnet.nn import fast_path
from gtdnet.train.config import TrainConfig
from gtdnet.train.module import TrainingModule
from gtdnet.train.optim import build_optimizer, scaled_lr
from gtdnet.train.ready import build_model


class TrainStep:
    """One optimiser step per call, as ``gtdnet train`` takes it on one device.

    Model, loss and optimiser are :mod:`gtdnet.train`'s; the few lines between them are what
    Lightning's trainer does there. Frames and labels are random.

    Of the config, model, clips, precision, layout and optimiser are taken; ``fast`` is with this
    package's fast path. InputError for a device or precision that is not here.
    """

    def __init__(self, config: TrainConfig, num_classes: int, *, fast: bool = True) -> None:
        self.device = resolve_device(config.device)
        self.precision = resolve_precision(config.precision, self.device)
        self.config = config
        self.fast = fast
        self.steps = 0
        torch.manual_seed(config.seed)
        spec = config.clip_spec(tuple(map(str, range(num_classes))))
        model, spec, _ = build_model(config, spec)
        if config.channels_last:
            to_channels_last(model)
        if config.compile:
            model.compile()
        lr = scaled_lr(config.lr, config.lr_batch, config.batch_size)
        module = TrainingModule(model, spec, config, lr, seed=config.seed)
        self.module = module.to(self.device).train()
        # Logging is the trainer's, which there is none of here.
        self.module.log = lambda *_, **__: None  # type: ignore[method-assign]
        self.module.on_train_start()
        self.optimizer = build_optimizer(config, model, lr)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")  # type: ignore[attr-defined]
        n, side = config.batch_size, spec.crop_size
        views = torch.randint(
            0, 256, (n, 1, spec.frames_per_clip, 3, side, side), dtype=torch.uint8
        )
        self.batch = Batch(views, torch.randint(num_classes, (n,)), torch.arange(n), [])
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # as gtdnet train
            self.batch = self.batch.pin_memory()

    def __call__(self) -> None:
        with fast_path(self.fast):
            batch = self.module.transfer_batch_to_device(self.batch, self.device, 0)
            self.module.on_train_batch_start(batch, self.steps)
            with autocast(self.device, self.precision):
                loss = self.module.training_step(batch, self.steps)
            if loss is None:
                raise RuntimeError("a training step without a loss")
            self.optimizer.zero_grad()
            self.scaler.scale(loss).backward()
            if self.config.clip_gradient:
                self.scaler.unscale_(self.optimizer)
                parameters = self.module.model.parameters()
                torch.nn.utils.clip_grad_norm_(parameters, self.config.clip_gradient)
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.steps += 1
