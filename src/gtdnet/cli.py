"""The command line: parsing, and what is printed. Everything else lives behind the functions."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from jsonargparse import ArgumentParser, Namespace

from gtdnet import __version__
from gtdnet.errors import InputError
from gtdnet.workers import keep_freed_memory

if TYPE_CHECKING:
    from gtdnet.models.complexity import Views

_BARE = ("json", "debug", "csv")  # options that take no value

EXIT_DONE, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130


_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": 'a list such as [1,2] or ["a","b"]',
    "dict": "a mapping such as {width: 0.5}",
}


class _Parser(ArgumentParser):
    """An argument parser whose complaints are one sentence."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        required = "the following arguments are required: "
        if message.startswith(required):  # argparse names options without their dashes
            names = message.removeprefix(required).split(", ")
            options = [n if self._is_positional(n) else f"--{n}" for n in names]
            message = required + ", ".join(options)
        raise InputError(f"{_plain(message)} (see {self.prog} --help)")

    def _is_positional(self, name: str) -> bool:
        return any(a.dest == name and not a.option_strings for a in self._actions)


def _plain(complaint: str) -> str:
    """jsonargparse's complaint about a value in plain words; any other in one line."""
    complaint = " ".join(complaint.split())
    option = re.match(r'Parser key "([\w.]+)"', complaint)
    value = re.search(r"(?:Got|Given) value: (.*)$", complaint)
    expected = re.findall(r"Expected an? <class '(\w+)'>", complaint)
    kinds = [_KINDS.get(str(name), str(name)) for name in expected if name != "NoneType"]
    if not (option and value and kinds):
        return complaint
    return f"--{option[1]}: expected {' or '.join(kinds)}, got {value[1]!r}"


# ----------------------------------------------------------------------------------- models


def _models_parser(parser: _Parser) -> None:
    parser.add_argument(
        "model", nargs="?", default="*", help='a name, or a pattern in quotes ("*_resnet50")'
    )
    parser.add_argument(
        "--num_classes", type=int, default=174, help="classes that the parameters are counted for"
    )
    parser.add_argument(
        "--complexity",
        type=bool,
        default=False,
        help="multiply-accumulates and activation memory too; the options below go with it",
    )
    parser.add_argument(
        "--views",
        type=str | None,  # type: ignore[arg-type]
        default=None,
        help="protocols, frames x crops x clips with commas between; default: of num_segments "
        "frames 1x1, 3x2 and 3x10",
    )
    parser.add_argument(
        "--num_segments",
        type=int | None,  # type: ignore[arg-type]
        default=None,
        help="frames (of TDN: segments) of a view; default: 8",
    )
    parser.add_argument("--crop_size", type=int, default=224, help="side of a view in pixels")


def _models(args: Namespace) -> tuple[int, dict[str, Any], str]:
    import torch

    from gtdnet.models.build import create_model, list_models, model_options, parts_of

    names = [name for name in list_models() if fnmatchcase(name, args.model)]
    if not names:
        raise InputError(f"no model is called {args.model!r}; gtdnet models lists them all")
    protocols = _protocols(args)
    rows: list[dict[str, Any]] = []
    for name in names:
        with torch.device("meta"):  # shapes alone
            model = create_model(name, args.num_classes)
        rows.append(
            {
                "name": name,
                "parameters": sum(p.numel() for p in model.parameters()),
                "title": parts_of(name).method.title,
                "options": model_options(name),
            }
        )
    if protocols:
        return EXIT_DONE, {"models": rows}, _complexity(rows, protocols, args)
    table = [f"{'model':20} {'M parameters':>12}  method"]
    table += [f"{r['name']:20} {r['parameters'] / 1e6:12.2f}  {r['title']}" for r in rows]
    methods = {name.partition("_")[0]: name for name in names}
    table += ["", "options (--model_options.NAME of gtdnet train), with their defaults:"]
    for method, name in methods.items():
        options = model_options(name)
        table.append(f"  {method}_*: " + ", ".join(f"{k}={v}" for k, v in options.items()))
    return EXIT_DONE, {"models": rows}, "\n".join(table)


def _protocols(args: Namespace) -> list[Views]:
    """The protocols that complexity is asked for; none if it is not asked for."""
    if not args.complexity:
        for option in ("--views", "--num_segments", "--crop_size"):
            if option in args.given:
                raise InputError(f"{option} goes with --complexity; give that too")
        return []
    from gtdnet.models.complexity import Views

    if args.views is None:
        frames = 8 if args.num_segments is None else args.num_segments
        return [Views(frames, 1, 1), Views(frames, 3, 2), Views(frames, 3, 10)]
    if args.num_segments is not None:
        raise InputError(
            f"--views {args.views} and --num_segments {args.num_segments} both give the number of "
            f"frames; leave one of them out"
        )
    return [Views.parse(part) for part in args.views.split(",")]


def _complexity(rows: list[dict[str, Any]], protocols: Sequence[Views], args: Namespace) -> str:
    """The table of what the models cost; each row's numbers are added to the row."""
    from gtdnet.models.complexity import Views, complexity
    from gtdnet.text import aligned, progress_bar

    with progress_bar("models", len(rows)) as advance:
        for row in rows:
            row["complexity"] = []
            for frames in dict.fromkeys(v.frames for v in protocols):
                cost = complexity(row["name"], args.num_classes, frames, args.crop_size)
                macs = {str(v): cost.macs * v.per_video for v in protocols if v.frames == frames}
                row["complexity"].append(
                    {
                        "num_segments": frames,
                        "crop_size": args.crop_size,
                        **asdict(cost),
                        "macs_of_protocol": macs,
                    }
                )
            advance(1)
    kinds = [k for k in dict.fromkeys(v[1:] for v in protocols) if k != (1, 1)]
    heads = ["model", "frames", "M parameters", "GMACs a view"]
    heads += [f"GMACs {crops}x{clips}" for crops, clips in kinds]
    table = [[*heads, "MiB inference", "MiB training"]]
    for row in rows:
        for cost in row["complexity"]:
            frames, macs = cost["num_segments"], cost["macs_of_protocol"]
            asked = [macs.get(str(Views(frames, *kind))) for kind in kinds]
            table.append(
                [
                    row["name"],
                    str(frames),
                    f"{cost['parameters'] / 1e6:.2f}",
                    f"{cost['macs'] / 1e9:.2f}",
                    *("" if m is None else f"{m / 1e9:.1f}" for m in asked),
                    f"{cost['inference_bytes'] / 2**20:.0f}",
                    f"{cost['training_bytes'] / 2**20:.0f}",
                ]
            )
    lines = [aligned(table)]
    lines += [
        "",
        f"GMACs: billions of multiply-accumulates, of a view of {args.crop_size}x{args.crop_size} "
        f"pixels, and of all crops x clips views.",
        "MiB: activations of one clip in float32, alive at a time in inference and kept for the "
        "backward pass in training; weights come on top.",
    ]
    if any(row["name"].startswith("tdn_") for row in rows):
        lines.append("tdn_*: each of the frames stands for a segment of 5 neighbouring ones.")
    return "\n".join(lines)


# ------------------------------------------------------------------------------------ synth


def _synth_parser(parser: _Parser) -> None:
    from gtdnet.data.synthetic import EDITIONS, FORMATS

    parser.add_argument("root", help="folder to write; new, empty or an interrupted run's")
    parser.add_argument("--format", default="something-v2", help=f"one of {', '.join(FORMATS)}")
    parser.add_argument(
        "--edition",
        default="full",
        help=f"one of {', '.join(EDITIONS)}: easy is learned in minutes on a CPU, hard is for "
        f"the laboratory",
    )
    parser.add_argument("--train", type=int, default=2000, help="training clips")
    parser.add_argument("--validation", type=int, default=400, help="validation clips")
    parser.add_argument("--test", type=int, default=0, help="test clips")
    parser.add_argument("--seed", type=int, default=0, help="of everything random")
    parser.add_argument("--size", type=int | None, default=None, help="shorter side in pixels")  # type: ignore[arg-type]
    parser.add_argument("--workers", type=int | None, default=None, help="processes")  # type: ignore[arg-type]


def _synth(args: Namespace) -> tuple[int, dict[str, Any], str]:
    from gtdnet.data.synthetic import write_dataset
    from gtdnet.text import progress_counter

    with progress_counter("writing clips") as progress:
        summary = write_dataset(
            args.root,
            format=args.format,
            edition=args.edition,
            train=args.train,
            validation=args.validation,
            test=args.test,
            seed=args.seed,
            size=args.size,
            workers=args.workers,
            progress=progress,
        )
    text = (
        f"{args.root}: {args.train} training, {args.validation} validation and {args.test} test "
        f"clips of {len(summary['classes'])} classes ({args.edition} edition, {args.format})\n"
        f"check it with: gtdnet check {args.root}"
    )
    return EXIT_DONE, summary, text


# ------------------------------------------------------------------------------------ check


def _check_parser(parser: _Parser) -> None:
    parser.add_argument("data", help="dataset folder, list file or manifest")
    parser.add_argument("--format", type=str | None, default=None, help="default: recognised")  # type: ignore[arg-type]
    parser.add_argument(
        "--splits",
        type=str | None,  # type: ignore[arg-type]
        default=None,
        help="splits to read, as train,validation; default: all there are",
    )
    parser.add_argument(
        "--num_segments", type=int, default=8, help="clips with fewer frames count as short"
    )
    parser.add_argument("--workers", type=int | None, default=None, help="decoding processes")  # type: ignore[arg-type]
    parser.add_argument(
        "--manifest",
        type=str | None,  # type: ignore[arg-type]
        default=None,
        help="write the clips that decode to this new .json file, to train on with --data",
    )


def _check(args: Namespace) -> tuple[int, dict[str, Any], str]:
    from gtdnet.data.check import check_dataset, format_report
    from gtdnet.text import progress_counter

    with progress_counter("decoding clips") as progress:
        report = check_dataset(
            args.data,
            format=args.format,
            splits=args.splits.split(",") if args.splits else None,
            num_segments=args.num_segments,
            workers=args.workers,
            manifest=Path(args.manifest) if args.manifest else None,
            progress=progress,
        )
    return EXIT_DONE if report.ok else EXIT_FAILED, report.to_dict(), format_report(report)


# ------------------------------------------------------------------------------------- pack


def _pack_parser(parser: _Parser) -> None:
    from gtdnet.data.pack.write import PackOptions

    parser.add_argument("data", help="dataset folder, list file or manifest of gtdnet check")
    parser.add_argument("output", help="folder to write; new, empty or an interrupted run's")
    parser.add_class_arguments(PackOptions, None, skip={"data", "output"})


def _pack(args: Namespace) -> tuple[int, dict[str, Any], str]:
    from gtdnet.data.pack.write import PackOptions, pack, summary
    from gtdnet.text import progress_counter

    with progress_counter("packing clips") as progress:
        result = pack(_options(PackOptions, args), progress)
    return EXIT_DONE, result, summary(result)


# ------------------------------------------------------------------------------------ train


def _train_parser(parser: _Parser) -> None:
    from gtdnet.train.config import GROUPS, list_recipes

    parser.add_argument(
        "--recipe",
        "--config",
        type=str | None,  # type: ignore[arg-type]
        default=None,
        help=f"options from a YAML file or a recipe of this package: {', '.join(list_recipes())}; "
        f"what is given beside it wins",
    )
    parser.add_argument(
        "--resume",
        type=str | None,  # type: ignore[arg-type]
        default=None,
        metavar="RUN",
        help="continue the run in this directory at the step where it stopped",
    )
    for group in GROUPS:
        parser.add_class_arguments(group, None, as_group=True)


def _train(args: Namespace) -> tuple[int, dict[str, Any] | None, str]:
    from gtdnet.train.config import TrainConfig
    from gtdnet.train.run import is_first_process, resume, train

    if args.resume:
        extra = [option for option in args.given if option not in ("--resume", "--json")]
        if extra:
            raise InputError(
                f"{extra[0]} cannot be changed by --resume, which takes every option from the "
                f"run's config.yaml; start a new run with --config {args.resume}/config.yaml"
            )
        result = resume(args.resume)
    else:
        result = train(_options(TrainConfig, args))
    lines = []
    if result.model:
        score = result.best.get("val_top1")
        beside = f" (validation top-1 {100 * score:.1f} %)" if score is not None else ""
        lines.append(f"model: {result.model}{beside}")
    code = EXIT_DONE if result.finished else EXIT_INTERRUPTED
    if not is_first_process():
        return code, None, ""
    return code, result.to_dict(), "\n".join(lines)


# ----------------------------------------------------------------------------------- ablate


def _ablate_parser(parser: _Parser) -> None:
    from gtdnet.ablate.run import AblateOptions

    parser.add_argument("grid", help="YAML file with base, variants and seeds")
    parser.add_class_arguments(AblateOptions, None, skip={"grid"})


def _ablate(args: Namespace) -> tuple[int, dict[str, Any], str]:
    from gtdnet.ablate.run import AblateOptions, ablate
    from gtdnet.ablate.summary import table

    result = ablate(_options(AblateOptions, args))
    failed = any(run["status"] == "failed" for run in result["runs"])
    text = f"{table(result)}\n\nresults: {result['output']}"
    return EXIT_FAILED if failed else EXIT_DONE, result, text


# --------------------------------------------------------------------------------- evaluate


def _evaluate_parser(parser: _Parser) -> None:
    from gtdnet.evaluate import EvaluateOptions

    parser.add_argument(
        "model", help="model file (*.safetensors), exported one (*.onnx, *.xml), or hf://user/name"
    )
    parser.add_class_arguments(EvaluateOptions, None, skip={"model"})


def _evaluate(args: Namespace) -> tuple[int, dict[str, Any], str]:
    from gtdnet.evaluate import EvaluateOptions, evaluate
    from gtdnet.evaluate.diagnose import describe
    from gtdnet.evaluate.protocol import summary

    result = evaluate(_options(EvaluateOptions, args))
    text = summary(result)
    if args.diagnose:
        text += "\n\n" + describe(result["diagnosis"])
    return EXIT_DONE, result, text


# --------------------------------------------------------------------------------- ensemble


def _ensemble_parser(parser: _Parser) -> None:
    from gtdnet.evaluate.ensemble import EnsembleOptions

    parser.add_argument(
        "members",
        nargs="+",
        help="folders that gtdnet evaluate or ensemble wrote, or their scores.npz; two or more",
    )
    parser.add_argument(
        "--weights",
        type=str | None,  # type: ignore[arg-type]
        default=None,
        help="a number for each member, as 1,2; default: all count the same",
    )
    parser.add_class_arguments(EnsembleOptions, None, skip={"members", "weights"})


def _ensemble(args: Namespace) -> tuple[int, dict[str, Any], str]:
    from gtdnet.evaluate.ensemble import EnsembleOptions, describe, ensemble

    if args.weights is not None:
        try:
            args.weights = [float(weight) for weight in args.weights.split(",")]
        except ValueError as error:
            raise InputError(
                f"--weights: expected numbers such as 1,2, got {args.weights!r}"
            ) from error
    result = ensemble(_options(EnsembleOptions, args))
    return EXIT_DONE, result, describe(result)


# ---------------------------------------------------------------------------------- predict


def _predict_parser(parser: _Parser) -> None:
    from gtdnet.infer.predict import PredictOptions

    parser.add_argument(
        "model", help="model file (*.safetensors), exported one (*.onnx, *.xml), or hf://user/name"
    )
    parser.add_argument(
        "videos", nargs="+", help="video files, folders, folders of frames, or globs in quotes"
    )
    parser.add_class_arguments(PredictOptions, None, skip={"model", "videos"})
    parser.add_argument("--csv", action="store_true", help="print comma-separated values")


def _predict(args: Namespace) -> tuple[int, dict[str, Any], Any]:
    from gtdnet.infer.predict import PredictOptions, predict
    from gtdnet.infer.render import render_table, to_csv

    report = predict(_options(PredictOptions, args))
    only = report.videos[0]
    if len(report.videos) == 1 and not (only.scores or only.windows):
        _complain("gtdnet predict", f"{only.path}: {only.reason}")
        return EXIT_BAD_INPUT, report.to_json(), ""
    text = to_csv(report).rstrip() if args.csv else render_table(report)
    return EXIT_FAILED if report.num_failed else EXIT_DONE, report.to_json(), text


# ----------------------------------------------------------------------------------- report


def _report_parser(parser: _Parser) -> None:
    from gtdnet.report.report import ReportOptions

    parser.add_argument("runs", nargs="+", help="run directories, or folders of evaluations")
    parser.add_class_arguments(ReportOptions, None, skip={"runs"})


def _report(args: Namespace) -> tuple[int, dict[str, Any], str]:
    from gtdnet.report.report import ReportOptions, report, summary
    from gtdnet.text import progress_counter

    with progress_counter("reading frames") as progress:
        result = report(_options(ReportOptions, args), progress)
    return EXIT_DONE, result, summary(result)


# ------------------------------------------------------------------------------------- show


def _show_parser(parser: _Parser) -> None:
    from gtdnet.show.run import ShowOptions

    parser.add_argument("model", help="model file (*.safetensors), or hf://user/name")
    parser.add_argument("video", help="a video file or a folder of numbered pictures")
    parser.add_argument(
        "--class",
        type=str | None,  # type: ignore[arg-type]
        default=None,
        metavar="NAME|NUMBER",
        help="the class that the activation maps are about; default: the predicted one",
    )
    parser.add_class_arguments(ShowOptions, None, skip={"model", "video", "class_name"})


def _show(args: Namespace) -> tuple[int, dict[str, Any], str]:
    from gtdnet.infer.render import percent
    from gtdnet.show.run import ShowOptions, show

    args.class_name = args["class"]
    result = show(_options(ShowOptions, args))
    lines = [f"{percent(c['probability']):>7}  {c['name']}" for c in result["prediction"]]
    return EXIT_DONE, result, "\n".join([*lines, *result["notes"], *result["files"]])


# ------------------------------------------------------------------------------------- push


def _push_parser(parser: _Parser) -> None:
    parser.add_argument("model", help="model file (*.safetensors)")
    parser.add_argument("repository", help="its name on the Hugging Face hub: user/name")
    parser.add_argument(
        "--private", type=bool, default=False, help="only you or your organisation see it"
    )
    parser.add_argument(
        "--license",
        type=str | None,  # type: ignore[arg-type]
        default=None,
        help="the hub's identifier of a license, such as apache-2.0 or cc-by-nc-4.0",
    )
    parser.add_argument("--message", type=str | None, default=None, help="of the commit")  # type: ignore[arg-type]
    parser.add_argument(
        "--preview",
        type=str | None,  # type: ignore[arg-type]
        default=None,
        metavar="FOLDER",
        help="write the files to this folder and publish nothing",
    )


def _push(args: Namespace) -> tuple[int, dict[str, Any], str]:
    from gtdnet.hub import push_to_hub, write_repository

    if args.preview:
        paths = write_repository(args.model, args.preview, args.repository, license=args.license)
        files = [str(path) for path in paths]
        text = "\n".join([*files, "nothing was published (--preview)"])
        return EXIT_DONE, {"url": None, "files": files}, text
    url = push_to_hub(
        args.model,
        args.repository,
        private=args.private,
        license=args.license,
        message=args.message,
    )
    text = f"{url}\nuse it with: gtdnet predict hf://{args.repository} VIDEO"
    return EXIT_DONE, {"url": url, "files": []}, text


# ---------------------------------------------------------------------------------- convert


def _convert_parser(parser: _Parser) -> None:
    from gtdnet.weights.convert import ConvertOptions

    parser.add_argument("checkpoint", help="the file (.pth, .pth.tar, .safetensors, ...)")
    parser.add_class_arguments(ConvertOptions, None, skip={"checkpoint"})


def _convert(args: Namespace) -> tuple[int, dict[str, Any], str]:
    from gtdnet.weights.convert import ConvertOptions, convert

    result = convert(_options(ConvertOptions, args))
    lines = [
        f"{result.path}: {result.model} (from {result.source}), {result.num_classes} classes, "
        f"num_segments {result.num_segments}",
        *(f"  {note}" for note in result.notes),
        f"use it with: gtdnet predict {result.path} VIDEO",
    ]
    return EXIT_DONE, result.to_dict(), "\n".join(lines)


# ----------------------------------------------------------------------------------- export


def _export_parser(parser: _Parser) -> None:
    from gtdnet.export import ExportOptions

    parser.add_argument("model", help="model file (*.safetensors), or hf://user/name")
    parser.add_argument("output", help="folder to write; new or empty")
    parser.add_class_arguments(ExportOptions, None, skip={"model", "output"})


def _export(args: Namespace) -> tuple[int, dict[str, Any] | None, str]:
    from gtdnet.export import ExportFailed, ExportOptions, export
    from gtdnet.export.run import summary

    try:
        result = export(_options(ExportOptions, args))
    except ExportFailed as error:
        _complain("gtdnet export", str(error))
        return EXIT_FAILED, None, ""
    return EXIT_DONE, result, summary(result)


# ------------------------------------------------------------------------------------ bench


def _bench_parser(parser: _Parser) -> None:
    from gtdnet.bench.models import ModelChoice
    from gtdnet.bench.options import MeasureOptions

    _bench_models(parser)
    parser.add_class_arguments(ModelChoice, None, as_group=True, skip={"models"})
    parser.add_class_arguments(MeasureOptions, None, as_group=True)


def _bench_train_parser(parser: _Parser) -> None:
    from gtdnet.bench.options import MeasureOptions
    from gtdnet.bench.train import TrainChoice

    _bench_models(parser)
    parser.add_class_arguments(TrainChoice, None, as_group=True, skip={"models"})
    parser.add_class_arguments(MeasureOptions, None, as_group=True)


def _bench_models(parser: _Parser) -> None:
    parser.add_argument(
        "models",
        nargs="*",
        default=["gtdnet_resnet50"],
        help="names, as gtdnet models lists them, or model files",
    )


def _bench_data_parser(parser: _Parser) -> None:
    from gtdnet.bench.data import DataBenchOptions

    parser.add_argument(
        "data",
        nargs="+",
        help="dataset folders, list files or manifests; several are compared with the first",
    )
    parser.add_class_arguments(DataBenchOptions, None, skip={"data"})


def _bench(args: Namespace) -> tuple[int, dict[str, Any], str]:
    from gtdnet.bench.models import ModelBenchOptions, bench_models
    from gtdnet.bench.result import text

    result = bench_models(_options(ModelBenchOptions, args))
    return EXIT_DONE, result, text(result)


def _bench_train(args: Namespace) -> tuple[int, dict[str, Any], str]:
    from gtdnet.bench.result import text
    from gtdnet.bench.train import TrainBenchOptions, bench_train

    result = bench_train(_options(TrainBenchOptions, args))
    return EXIT_DONE, result, text(result)


def _bench_data(args: Namespace) -> tuple[int, dict[str, Any], str]:
    from gtdnet.bench.data import DataBenchOptions, bench_data
    from gtdnet.bench.result import text

    result = bench_data(_options(DataBenchOptions, args))
    return EXIT_DONE, result, text(result)


# ------------------------------------------------------------------------------------- demo


def _demo_parser(parser: _Parser) -> None:
    from gtdnet.demo import DemoOptions

    parser.add_class_arguments(DemoOptions, None)


def _demo(args: Namespace) -> tuple[int, dict[str, Any], str]:
    from gtdnet.demo import DemoOptions, demo, summary

    result = demo(_options(DemoOptions, args))
    return EXIT_DONE, result, summary(result)


# ------------------------------------------------------------------------------------- main


@dataclass(frozen=True)
class _Command:
    """A command: its one line, how its parser is filled, and what it does.

    ``run`` gives the exit code, the JSON object (None: another process prints it) and what people
    read: text or a rich table. ``positional`` names arguments that may also be given as --NAME.
    """

    title: str
    example: str
    fill: Callable[[_Parser], None]
    run: Callable[[Namespace], tuple[int, dict[str, Any] | None, Any]]
    positional: tuple[str, ...] = ()


COMMANDS: dict[str, _Command] = {
    "demo": _Command(
        "make clips, check, train, evaluate and predict: the whole road in minutes",
        "gtdnet demo",
        _demo_parser,
        _demo,
    ),
    "models": _Command(
        "list the models, their sizes, options and costs",
        'gtdnet models "*_resnet50" --complexity --views 8x3x2,16x3x2',
        _models_parser,
        _models,
        ("model",),
    ),
    "synth": _Command(
        "write the built-in dataset: clips that need time to be understood",
        "gtdnet synth data/synth --train 2000 --validation 400",
        _synth_parser,
        _synth,
        ("root",),
    ),
    "check": _Command(
        "decode every clip of a dataset and say what is wrong and how to mend it",
        "gtdnet check data/mine --manifest data/mine/good.json",
        _check_parser,
        _check,
        ("data",),
    ),
    "pack": _Command(
        "store a dataset so that 8 frames of a clip cost the decoding of 8, for fast training",
        "gtdnet pack data/mine data/mine-packed",
        _pack_parser,
        _pack,
        ("data", "output"),
    ),
    "train": _Command(
        "train a model on a dataset",
        "gtdnet train --recipe gtdnet_r50_8f_ssv2 --data data/ssv2 --name first",
        _train_parser,
        _train,
    ),
    "ablate": _Command(
        "train variants of a model with several seeds each on equal terms, and compare them",
        "gtdnet ablate benchmarks/ablation.yaml --data data/ablation/clips",
        _ablate_parser,
        _ablate,
        ("grid",),
    ),
    "evaluate": _Command(
        "measure a model on a split, with any number of views, on every clip",
        "gtdnet evaluate runs/first/model.safetensors --data data/ssv2 --clips 2 --crops 3",
        _evaluate_parser,
        _evaluate,
        ("model",),
    ),
    "ensemble": _Command(
        "average the probabilities of several evaluations of the same clips",
        "gtdnet ensemble runs/f8/eval-validation-8x3x2 runs/f16/eval-validation-16x3x2",
        _ensemble_parser,
        _ensemble,
        ("members",),
    ),
    "predict": _Command(
        "name the action in video files",
        "gtdnet predict runs/first/model.safetensors clip.mp4 more/*.webm",
        _predict_parser,
        _predict,
        ("model",),
    ),
    "report": _Command(
        "one HTML page about a run, or several compared: curves, accuracies, confusions, clips",
        "gtdnet report runs/first runs/second --output report.html",
        _report_parser,
        _report,
        ("runs",),
    ),
    "show": _Command(
        "draw how a model sees a clip: differences, scores and activation maps",
        "gtdnet show runs/first/model.safetensors clip.mp4 --output clip.html",
        _show_parser,
        _show,
        ("model",),
    ),
    "convert": _Command(
        "make an official checkpoint of TSM, TDN, TEA, mmaction2, ... a model file",
        "gtdnet convert tsm_sthv2.pth --to tsm.safetensors --classes something-v2",
        _convert_parser,
        _convert,
        ("checkpoint",),
    ),
    "push": _Command(
        "publish a model file with a model card on the Hugging Face hub",
        "gtdnet push runs/first/model.safetensors user/name --license apache-2.0",
        _push_parser,
        _push,
        ("model",),
    ),
    "export": _Command(
        "write a model as ONNX, OpenVINO and torch.export, checked against it; int8 too",
        "gtdnet export runs/first/model.safetensors exported --precision bf16",
        _export_parser,
        _export,
        ("model", "output"),
    ),
    "bench": _Command(
        "time models by engine and precision beside the plain 2D network: latency, memory, ratios",
        "gtdnet bench gtdnet_resnet50 --engines torch,openvino --precisions fp32,bf16",
        _bench_parser,
        _bench,
        ("models",),
    ),
    "bench data": _Command(
        "time the reading of clips, stage by stage; several datasets side by side",
        "gtdnet bench data data/mine data/packed --num_workers 2",
        _bench_data_parser,
        _bench_data,
        ("data",),
    ),
    "bench train": _Command(
        "time training steps in several settings beside the plain 2D network",
        "gtdnet bench train gtdnet_resnet50 --settings default,fp32-nchw,compile",
        _bench_train_parser,
        _bench_train,
        ("models",),
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return EXIT_DONE if words else EXIT_BAD_INPUT
    if words[0] in ("-V", "--version"):
        print(f"gtdnet {__version__}")
        return EXIT_DONE
    name, words = words[0], words[1:]
    if words and f"{name} {words[0]}" in COMMANDS:
        name, words = f"{name} {words[0]}", words[1:]
    if name not in COMMANDS:
        _complain("gtdnet", f"no command {name!r}; choose one of {', '.join(COMMANDS)}")
        return EXIT_BAD_INPUT
    debug = "--debug" in words
    try:
        return _run(name, [w for w in words if w != "--debug"])
    except InputError as error:
        if debug:
            raise
        _complain(f"gtdnet {name}", str(error))
        return EXIT_BAD_INPUT
    except (KeyboardInterrupt, InterruptedError) as error:
        _complain(f"gtdnet {name}", str(error) or "interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away: what is still buffered must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except Exception as error:
        if debug:
            raise
        _complain(f"gtdnet {name}", f"failed: {type(error).__name__}: {error} (--debug: where)")
        return EXIT_FAILED


def _run(name: str, words: list[str]) -> int:
    keep_freed_memory()
    command = COMMANDS[name]
    parser = _Parser(
        prog=f"gtdnet {name}",
        description=f"{command.title[0].upper()}{command.title[1:]}.",
        epilog=f"example: {command.example}",
        exit_on_error=False,
        allow_abbrev=False,
    )
    command.fill(parser)
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object on stdout as the last line"
    )
    parser.add_argument(
        "--debug", action="store_true", help="on an error, show where in the code it arose"
    )
    switches = {k for k, v in parser.get_defaults().items() if isinstance(v, bool)} - {*_BARE}
    words = _normalised(words, command.positional, switches)
    args = parser.parse_args(words)
    if recipe := args.get("recipe"):
        from gtdnet.train.config import TrainConfig, find_recipe

        parser.set_defaults(asdict(TrainConfig.load(find_recipe(recipe))))
        args = parser.parse_args(words)
    args.given = [word.partition("=")[0] for word in words if word.startswith("--")]
    code, result, text = command.run(args)
    if args.json:
        if result is not None:
            print(json.dumps(result, ensure_ascii=False))
    elif isinstance(text, str):
        print(text, end="\n" if text else "")
    else:
        from rich.console import Console

        Console().print(text)
    sys.stdout.flush()
    return code


def _normalised(
    words: Sequence[str], positional: Sequence[str], switches: Collection[str]
) -> list[str]:
    """Accept --num-segments for --num_segments, --model X for X, --overwrite for its "true"."""
    result: list[str] = []
    last: list[str] = []
    words = list(words)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            result.append(word)
            continue
        option, equals, value = word.partition("=")
        option = option.replace("-", "_").replace("__", "--", 1)
        name = option.removeprefix("--")
        if name in positional and (equals or words):
            value = value if equals else words.pop(0)
            if name == positional[0]:
                result.insert(0, value)
            else:
                last.append(value)
        elif name in switches and not equals and not _is_value(words[:1], positional):
            result.append(f"{option}=true")
        else:
            result.append(option + equals + value)
    return result + last


def _is_value(following: Sequence[str], positional: Collection[str]) -> bool:
    """Whether the word after a switch is meant as its value."""
    if not following or following[0].startswith("--"):
        return False
    return not positional or following[0] in ("true", "false")


def _options(options: type[Any], args: Namespace) -> Any:
    return options(**{f.name: getattr(args, f.name) for f in fields(options)})


def _overview() -> str:
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "usage: gtdnet COMMAND [options]      (gtdnet COMMAND --help teaches each)",
            "",
            "Video action recognition with the Global Temporal Difference Network.",
            "",
            *(f"  {name:{width}}  {command.title}" for name, command in COMMANDS.items()),
            "",
            "Every command: --json prints one JSON object on stdout; --debug shows where an error "
            "arose.",
            "Exit status: 0 done, 1 failed, 2 bad input, 130 interrupted.",
        ]
    )


def _complain(who: str, message: str) -> None:
    print(f"{who}: {' '.join(message.split())}", file=sys.stderr)
