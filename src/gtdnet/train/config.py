"""What a training run can be told: one flat, typed config; recipes are YAML files of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from gtdnet.data.spec import ClipSpec
from gtdnet.errors import (
    InputError,
    check_at_least,
    check_between,
    check_choice,
    check_not_negative,
    check_positive,
    suggestion,
)
from gtdnet.files import read_yaml, write_yaml
from gtdnet.train.loggers import logger_names

SCHEDULES = ("cosine", "step", "onecycle", "constant")
OPTIMIZERS = ("sgd", "adamw")
INITS = ("auto", "default", "identity")
FREEZES = ("none", "norms", "backbone")
STRATEGIES = ("ddp", "fsdp")


@dataclass
class RunOptions:
    """Run: where results go and what they depend on

    Args:
        name: the run's folder under ``output``; default: model name and time.
        output: folder of all runs.
        seed: of everything random: order, frames, augmentation, weights, dropout.
        logger: who else is told the numbers of metrics.csv: tensorboard, csv, wandb, mlflow,
            several with commas between, none, or auto (tensorboard where it is installed). Nothing
            leaves this machine unless WANDB_MODE or MLFLOW_TRACKING_URI say so.
        report: write report.html and its validation/ into the run's folder at the end.
    """

    name: str | None = None
    output: str = "runs"
    seed: int = 0
    logger: str = "auto"
    report: bool = True


@dataclass
class DataOptions:
    """Data

    Args:
        data: dataset folder, list file or manifest of gtdnet check; required, here or in the
            recipe.
        format: how the dataset is laid out; default: recognised.
        val: share of the training clips to hold out for validation, as 0.2, where the dataset has
            no validation split.
        group: what must not be on both sides of it, such as the person or the source of a clip: a
            column of the list, or a regular expression that finds it in a clip's path (its first
            bracketed part, where it has one); default: the column "group" where there is one.
        val_groups: the groups to hold out, by name, as P01,P07, in place of a share.
        val_seed: which clips or groups a share takes.
        batch_size: clips per device and step.
        num_workers: decoding processes; default: one per core, at most 8 (half of them when
            training runs on the CPU).
        balanced: draw every class equally often (not of multi-label clips).
        class_weights: weigh the loss of each class by 1 / its number of clips (mean 1).
    """

    data: str = ""
    format: str | None = None
    val: float | None = None
    group: str | None = None
    val_groups: str | None = None
    val_seed: int = 0
    batch_size: int = 8
    num_workers: int | None = None
    balanced: bool = False
    class_weights: bool = False


@dataclass
class ModelOptions:
    """Model

    Args:
        model: name, as gtdnet models lists them; default: chosen by device, installed weights and
            number of clips, with the options that fit them, unless a recipe says it.
        model_options: the model's own, as --model_options.reduction 8; gtdnet models lists those
            of every method, with what they are by default.
        pretrained: weights to start from: imagenet, imagenet-v2, imagenet-22k or dinov2 (published,
            downloaded), a file of 2D weights (.safetensors or .pth), a model file, or
            hf://user/name.
        init: of temporal modules that come with no weights: identity starts a GTDNet as exactly
            the TSM network of the same 2D weights; default has the initial values of PyTorch or of
            the method's paper; auto is identity for 2D weights where the method can.
        init_from: model file at whose function to start: its options, and its classifier where the
            classes are among its own; a GTDNet starts at exactly what a TSM file computes.
        freeze: what does not learn: none, norms (the 2D network's batch norms keep statistics,
            scale and shift: for small batches) or backbone (only the classifier learns).
        frozen_stages: the 2D network is frozen up to this stage, temporal modules there included
            (1: the stem; 0: nothing); what comes before costs no backward pass.
        norm_momentum: share of a batch in the running statistics of the 2D network's batch norms;
            default: the network's own.
    """

    model: str = "gtdnet_resnet50"
    model_options: dict[str, Any] = field(default_factory=dict)
    pretrained: str | None = None
    init: str = "auto"
    init_from: str | None = None
    freeze: str = "none"
    frozen_stages: int = 0
    norm_momentum: float | None = None


@dataclass
class ClipOptions:
    """Clips: how frames are chosen and cropped; this travels in the model file

    Args:
        num_segments: frames per clip, or groups of frames (tdn: of 5 neighbouring ones each).
        sampling: segment (one frame of each of num_segments equal parts), dense,
            dense-tsm (in the windows of TSM's code), or rate (by time: for cameras).
        frame_interval: frames between two sampled ones (dense only).
        rate: sampled frames per second (rate only).
        short_side: the shorter side in pixels before test crops.
        crop_size: side of the square the model sees.
        multiscale: random crops of 1, .875, .75, .66 of the short side; else at the test scale.
        flip: probability of a horizontal flip; left/right classes swap, others may be exempt.
        brightness: random brightness and contrast, +- this share.
    """

    num_segments: int = 8
    sampling: str = "segment"
    frame_interval: int = 8
    rate: float | None = None
    short_side: int = 256
    crop_size: int = 224
    multiscale: bool = True
    flip: float = 0.5
    brightness: float = 0.0


@dataclass
class OptimOptions:
    """Optimisation

    Args:
        epochs: passes over the training clips.
        optimizer: by which weights change.
        lr: learning rate for a total batch of ``lr_batch`` clips; scaled linearly to the real one.
        lr_batch: total batch that ``lr`` is meant for; 0: no scaling.
        momentum: of sgd.
        weight_decay: on weights; norms and biases get none.
        classifier_lr: factor on the learning rate of the classifier.
        bias_lr: factor on the learning rate of biases.
        temporal_lr: factor on the learning rate of the temporal modules.
        schedule: of the learning rate; step: x gamma at each milestone.
        milestones: epochs at which step lowers the rate.
        gamma: factor at each milestone.
        warmup_epochs: epochs in which the rate rises linearly (of onecycle: default 25 % of all).
        clip_gradient: largest norm of the gradient; 0: unlimited.
        accumulate: batches per step.
        dropout: before the classifier.
        label_smoothing: share of the label spread over all classes; of a multi-label clip the share
            of every class that is spread over yes and no.
        mixup: alpha of mixup's Beta(alpha, alpha); 0: none.
        ema: decay of the moving average of the weights that is validated and kept; 0: none.
        early_stopping: stop after this many validations without a better top-1 (mAP of multi-label
            clips); 0: never.
    """

    epochs: int = 50
    optimizer: str = "sgd"
    lr: float = 0.01
    lr_batch: int = 64
    momentum: float = 0.9
    weight_decay: float = 5e-4
    classifier_lr: float = 5.0
    bias_lr: float = 2.0
    temporal_lr: float = 1.0
    schedule: str = "cosine"
    milestones: list[int] = field(default_factory=list)
    gamma: float = 0.1
    warmup_epochs: float = 0.0
    clip_gradient: float = 20.0
    accumulate: int = 1
    dropout: float = 0.5
    label_smoothing: float = 0.0
    mixup: float = 0.0
    ema: float = 0.0
    early_stopping: int = 0


@dataclass
class MachineOptions:
    """Machine

    Args:
        device: where to compute; auto: on a GPU if there is one; cuda:1: on the second.
        devices: how many of them on each machine, a process each (DistributedDataParallel); under
            torchrun or srun: as many as those started.
        num_nodes: machines; each is given the same command, best by torchrun or srun.
        timeout: minutes that processes wait for one of them before the run ends and says so.
        strategy: what processes share: ddp, gradients alone; fsdp, also weights and the optimizer's
            state, of which each then holds its part.
        sync_batchnorm: let batch norms see the clips of all processes; else each sees its own.
        precision: auto: bf16 where the processor has it, else fp32.
        channels_last: memory layout that most processors prefer.
        compile: torch.compile the model.
        validate_every: epochs between validations.
        save_minutes: minutes between saves of last.ckpt within an epoch.
    """

    device: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    timeout: float = 5.0
    strategy: str = "ddp"
    sync_batchnorm: bool = False
    precision: str = "auto"
    channels_last: bool = True
    compile: bool = False
    validate_every: int = 1
    save_minutes: float = 10.0


GROUPS = (RunOptions, DataOptions, ModelOptions, ClipOptions, OptimOptions, MachineOptions)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {  # by annotation: check, words
    "bool": (lambda v: isinstance(v, bool), "true or false"),
    "int": (_is_int, "a whole number"),
    "float": (lambda v: _is_int(v) or isinstance(v, float), "a number"),
    "str": (lambda v: isinstance(v, str), "text"),
    "list[int]": (lambda v: isinstance(v, list) and all(map(_is_int, v)), "whole numbers"),
    "dict[str, Any]": (lambda v: isinstance(v, dict), "a mapping of names to values"),
}
_CHOICES = {
    "schedule": SCHEDULES,
    "optimizer": OPTIMIZERS,
    "init": INITS,
    "freeze": FREEZES,
    "strategy": STRATEGIES,
}
_LIMITS: dict[str, Callable[..., None]] = {  # by options
    "batch_size epochs accumulate devices num_nodes validate_every": partial(check_at_least, 1),
    "lr_batch momentum weight_decay classifier_lr bias_lr temporal_lr warmup_epochs clip_gradient "
    "mixup early_stopping save_minutes seed val_seed num_workers frozen_stages": check_not_negative,
    "norm_momentum flip brightness label_smoothing dropout ema": partial(check_between, 0, 1),
    "lr rate timeout": check_positive,
}


@dataclass
class TrainConfig(MachineOptions, OptimOptions, ClipOptions, ModelOptions, DataOptions, RunOptions):
    """Everything of one training run. Raises ValueError where a value is out of range."""

    def __post_init__(self) -> None:
        for option in fields(self):
            kind, _, optional = str(option.type).partition(" | ")
            fits, words = _KINDS[kind]
            value = getattr(self, option.name)
            if not (fits(value) or (value is None and optional)):
                raise InputError(f"{option.name} must be {words}, got {value!r}")
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        for names, check in _LIMITS.items():
            check(**{name: getattr(self, name) for name in names.split()})
        logger_names(self.logger)
        if self.validate_every > self.epochs:
            raise InputError(
                f"validate_every={self.validate_every} is more than epochs={self.epochs}, so that "
                f"no epoch would be validated; lower validate_every"
            )
        if self.val is not None and not 0 < self.val < 1:
            raise InputError(f"val must be a share between 0 and 1, as 0.2, got {self.val}")
        if self.val is not None and self.val_groups:
            raise InputError(
                f"val={self.val} and val_groups={self.val_groups} both say what to hold out; leave "
                f"one of them out"
            )
        if self.group and not self.holds_out:
            raise InputError(f"group={self.group} is of clips to hold out; add val, as --val 0.2")
        if self.pretrained and self.init_from:
            raise InputError(
                f"pretrained={self.pretrained} and init_from={self.init_from} are two starts; "
                f"leave one of them out"
            )
        for name, none in (("freeze", "none"), ("frozen_stages", 0)):
            value = getattr(self, name)
            if value != none and not (self.pretrained or self.init_from):
                raise InputError(
                    f"{name}={value} would keep random weights; give pretrained or init_from"
                )

    @property
    def processes(self) -> int:
        """Of all machines, each with ``batch_size`` clips a batch."""
        return self.devices * self.num_nodes

    def on(self, devices: int, num_nodes: int) -> TrainConfig:
        """The same run on so many processes: as many clips a step.

        InputError where they cannot share a step's clips evenly.
        """
        clips, processes = self.batch_size * self.processes, devices * num_nodes
        if clips % processes:
            raise InputError(
                f"a step of this run has {clips} clips, which {processes} processes cannot share "
                f"evenly; go on with a number of them that divides {clips}"
            )
        return replace(self, devices=devices, num_nodes=num_nodes, batch_size=clips // processes)

    @property
    def holds_out(self) -> bool:
        """Whether validation clips are to be taken out of the training split."""
        return self.val is not None or bool(self.val_groups)

    def clip_spec(self, class_names: tuple[str, ...], *, multi_label: bool = False) -> ClipSpec:
        """The clip spec of this config's model for these classes; InputError if they do not fit."""
        from gtdnet.models.build import spec_values  # with it comes PyTorch

        return ClipSpec(
            class_names=class_names,
            num_segments=self.num_segments,
            sampling=self.sampling,
            frame_interval=self.frame_interval,
            rate=self.rate,
            short_side=self.short_side,
            crop_size=self.crop_size,
            multi_label=multi_label,
            **spec_values(self.model),
        )

    def save(self, path: Path) -> None:
        """Write the config as YAML, atomically."""
        write_yaml(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> TrainConfig:
        """Read what :meth:`save` wrote, or a recipe: a file of some of the options.

        Raises:
            ValueError: no such file, not a config, or a value out of range.
        """
        values = read_yaml(path)
        if not isinstance(values, dict):
            raise InputError(f"{path}: is not a training config")
        return cls.from_dict(values, path)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: object) -> TrainConfig:
        """The config with these options, others being the defaults.

        Raises:
            ValueError: an option that is unknown or out of range, beginning with ``where``.
        """
        kinds = {option.name: option.type for option in fields(cls)}
        if unknown := sorted(set(map(str, values)) - set(kinds)):
            guess = suggestion(unknown[0], kinds)
            raise InputError(
                f"{where}: unknown option {unknown[0]!r}{guess}; see gtdnet train --help"
            )
        options = dict(values)
        for name, value in values.items():
            # YAML 1.1 takes 1e-3, without a dot, for text.
            if kinds[name] == "float" and isinstance(value, str):
                with contextlib.suppress(ValueError):
                    options[name] = float(value)
        try:
            return cls(**options)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error


def check_is_run(folder: str | Path) -> None:
    """Raise InputError for what is no run directory."""
    if not Path(folder, "config.yaml").is_file():
        raise InputError(f"{folder}: is not a run directory (it holds no config.yaml)")


_RECIPES = Path(__file__).parents[1] / "recipes"


def list_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in _RECIPES.glob("*.yaml"))


def find_recipe(name: str) -> Path:
    """Path of a recipe by name, or of a YAML file by path; InputError if it is neither."""
    if Path(name).is_file():
        return Path(name)
    if name in list_recipes():
        return _RECIPES / f"{name}.yaml"
    guess, names = suggestion(name, list_recipes()), ", ".join(list_recipes())
    raise InputError(f"no recipe {name!r}{guess}: give the path of a YAML file or one of {names}")
