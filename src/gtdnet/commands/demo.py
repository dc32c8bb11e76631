"""gtdnet demo: the whole road in minutes: make clips, check them, train, evaluate, predict."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gtdnet.commands import EXIT_DONE, Outcome
from gtdnet.commands.parser import Namespace, Parser, options
from gtdnet.data.check import check_dataset
from gtdnet.data.formats import read_annotations
from gtdnet.data.synthetic import write_dataset
from gtdnet.errors import InputError
from gtdnet.text import progress_counter, say
from gtdnet.train.config import TrainConfig, find_recipe

if TYPE_CHECKING:
    from gtdnet.train.run import TrainResult

EXAMPLE = "gtdnet demo"
OLD_NAMES = {"--folder": "--output"}
COMPUTES = True
RECIPE = "synth_easy"
FRAMES = {  # frames mode of the evaluation: what it means
    "in-order": "frames in order",
    "shuffled": "frames shuffled",
    "repeated": "one frame repeated",
}


@dataclass
class DemoOptions:
    """The demo

    Args:
        output: where everything goes; a demo that was stopped goes on from there.
        train: training clips to make.
        validation: held-out clips to make.
        epochs: passes over the training clips; default: the recipe's.
        seed: of everything random.
        device: where to compute; auto: on a GPU if there is one; cuda:1: on the second.
    """

    output: str = "demo"
    train: int = 4000
    validation: int = 600
    epochs: int | None = None
    seed: int = 0
    device: str = "auto"


def fill(parser: Parser) -> None:
    parser.add_class_arguments(DemoOptions, None, as_group=False)


def run(args: Namespace) -> Outcome:
    result = demo(options(DemoOptions, args))
    return EXIT_DONE, result, summary(result)


def demo(options: DemoOptions) -> dict[str, Any]:
    """Run all steps and return what came out, JSON-ready; messages go to stderr.

    Raises:
        ValueError: the folder holds something else, or an option is out of range.
        InterruptedError: training was stopped with Ctrl-C; the same call goes on.
    """
    from gtdnet.evaluate import evaluate_orders
    from gtdnet.infer import Recognizer
    from gtdnet.models.model_file import load_model

    folder = Path(options.output)
    started = time.monotonic()

    def announce(text: str) -> None:
        say(f"[{time.monotonic() - started:4.0f} s] {text}")

    data = folder / "data"
    announce(f"1/5 making {options.train} + {options.validation} clips in {data}")
    with progress_counter("making clips") as progress:
        write_dataset(
            data,
            format="folder",
            edition="easy",
            train=options.train,
            validation=options.validation,
            seed=options.seed,
            progress=progress,
        )

    announce("2/5 checking them (gtdnet check)")
    with progress_counter("decoding clips") as progress:
        report = check_dataset(data, progress=progress)
    if not report.ok:
        raise InputError(f"{data}: the check found errors; delete {folder} and run the demo again")
    announce(f"    {sum(s.clips for s in report.splits.values())} clips decode, no errors")

    announce("3/5 training GTDNet (gtdnet train)")
    trained = _train(options, folder, data)
    if not trained.finished or trained.model is None:
        raise InterruptedError(f"stopped; continue with: gtdnet demo --output {folder}")

    announce("4/5 evaluating on the held-out clips (gtdnet evaluate)")
    held_out = read_annotations(data, "validation")
    evaluations = evaluate_orders(
        load_model(trained.model), held_out, list(FRAMES), device=options.device, batch_size=32
    )
    top1 = {frames: done.metrics["top1"] or 0.0 for frames, done in evaluations.items()}
    for frames, meaning in FRAMES.items():
        announce(f"    {meaning}: top-1 {100 * top1[frames]:.1f} %")

    announce("5/5 predicting one of them (gtdnet predict)")
    clip = held_out.records[0]
    truth = held_out.class_names[clip.classes[0]]
    answers = Recognizer(load_model(trained.model), options.device).predict(clip.path, topk=3)
    return {
        "model": str(trained.model),
        "run": str(trained.folder),
        "data": str(data),
        "training_clips": options.train,
        "held_out_clips": len(held_out.records),
        "classes": len(held_out.class_names),
        "top1": top1,
        "prediction": {
            "video": clip.path,
            "truth": truth,
            "topk": [{"name": a.name, "probability": a.probability} for a in answers],
        },
        "seconds": round(time.monotonic() - started, 1),
    }


def summary(result: dict[str, Any]) -> str:
    """What came out, for people."""
    rows = [f"  {FRAMES[k]:20} {100 * v:5.1f} %" for k, v in result["top1"].items()]
    example = result["prediction"]
    answers = [f"  {100 * a['probability']:5.1f} %  {a['name']}" for a in example["topk"]]
    model = result["model"]
    return "\n".join(
        [
            f"top-1 on {result['held_out_clips']} held-out clips of {result['classes']} classes "
            f"(chance {100 / result['classes']:.1f} %):",
            *rows,
            "",
            f"{example['video']}",
            f"  shows: {example['truth']}",
            *answers,
            "",
            f"model:         {model}",
            f"run directory: {result['run']}  (config.yaml, metrics.csv, TensorBoard events)",
            f"clips:         {result['data']}",
            f"took {result['seconds'] / 60:.1f} minutes",
            "",
            f"next: gtdnet evaluate {model} --data {result['data']} --crops 3 --clips 2",
            f"      gtdnet predict {model} YOUR_VIDEO.mp4",
            f"      gtdnet serve {model}    (a page to drop videos on, or point a camera at)",
        ]
    )


def _train(options: DemoOptions, folder: Path, data: Path) -> "TrainResult":
    """Train, or go on with a run that was stopped; a finished one is used as it is."""
    from gtdnet.train.run import resume, train

    run = folder / "run"
    if (run / "last.ckpt").is_file():
        return resume(run)
    config = TrainConfig.load(find_recipe(RECIPE))
    config = replace(
        config,
        data=str(data),
        output=str(folder),
        name="run",
        seed=options.seed,
        device=options.device,
        epochs=options.epochs or config.epochs,
    )
    if run.is_dir() and {p.name for p in run.iterdir()} <= {"config.yaml"}:
        (run / "config.yaml").unlink(missing_ok=True)  # stopped before the first step
        run.rmdir()
    return train(config)
