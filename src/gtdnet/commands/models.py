"""gtdnet models: names, sizes, options and costs of the models."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from gtdnet.commands import EXIT_DONE, Outcome
from gtdnet.commands.parser import Namespace, Parser
from gtdnet.errors import InputError
from gtdnet.text import aligned, progress_bar, say

if TYPE_CHECKING:
    from gtdnet.models.complexity import Views

EXAMPLE = 'gtdnet models "*_resnet50" --complexity --views 8x3x2,16x3x2'


@dataclass
class ModelsOptions:
    """List the models

    Args:
        num_classes: classes that the parameters are counted for.
        complexity: multiply-accumulates and activation memory too; the options below go with it.
        views: protocols, frames x crops x clips with commas between; default: of num_segments
            frames 1x1, 3x2 and 3x10.
        num_segments: frames (of TDN: segments) of a view; default: 8.
        crop_size: side of a view in pixels.
    """

    num_classes: int = 174
    complexity: bool = False
    views: str | None = None
    num_segments: int | None = None
    crop_size: int = 224


def fill(parser: Parser) -> None:
    parser.add_argument(
        "model", nargs="?", default="*", help='a name, or a pattern in quotes ("*_resnet50")'
    )
    parser.add_class_arguments(ModelsOptions, None, as_group=False)


def run(args: Namespace) -> Outcome:
    import torch

    from gtdnet.models.backbones import FAMILIES
    from gtdnet.models.build import create_model, find_models, model_options, parts_of

    names = find_models(args.model)
    if not names:
        raise InputError(f"no model is called {args.model!r}; gtdnet models lists them all")
    protocols = _protocols(args)
    rows: list[dict[str, Any]] = []
    for name in names:
        try:
            with torch.device("meta"):  # shapes alone
                model = create_model(name, args.num_classes)
        except InputError as error:  # of a network of another package
            if len(names) == 1:
                raise
            say(f"{name} left out: {error}")
            continue
        size = sum(p.numel() for p in model.parameters())
        about = {"title": parts_of(name).method.title, "options": model_options(name)}
        rows.append({"name": name, "parameters": size, **about})
    if protocols:
        _add_complexity(rows, protocols, args)
        return EXIT_DONE, {"models": rows}, _costs(rows, protocols, args.crop_size)
    text = _names(rows)
    if args.model == "*":
        text += "".join(
            f"\n\nand METHOD_{prefix}NAME: {family.title}; gtdnet models 'gtdnet_{prefix}*resnet*' "
            f"lists some"
            for prefix, family in FAMILIES.items()
        )
    return EXIT_DONE, {"models": rows}, text


def _names(rows: Sequence[dict[str, Any]]) -> str:
    width = max(20, *(len(row["name"]) for row in rows))
    lines = [f"{'model':{width}} {'M parameters':>12}  method"]
    lines += [f"{r['name']:{width}} {r['parameters'] / 1e6:12.2f}  {r['title']}" for r in rows]
    lines += ["", "options (--model_options.NAME of gtdnet train), with their defaults:"]
    from gtdnet.models.build import parts_of

    of_methods = {parts_of(row["name"]).method.name: row["options"] for row in rows}
    for method, options in of_methods.items():
        lines.append(f"  {method}_*: " + ", ".join(f"{k}={v}" for k, v in options.items()))
    return "\n".join(lines)


def _protocols(args: Namespace) -> "list[Views]":
    """The protocols that complexity is asked for; none if it is not asked for."""
    from gtdnet.models.complexity import Views

    if not args.complexity:
        for option in ("--views", "--num_segments", "--crop_size"):
            if option in args.given:
                raise InputError(f"{option} goes with --complexity; give that too")
        return []
    if args.views is None:
        frames = 8 if args.num_segments is None else args.num_segments
        return [Views(frames, 1, 1), Views(frames, 3, 2), Views(frames, 3, 10)]
    if args.num_segments is not None:
        raise InputError(
            f"--views {args.views} and --num_segments {args.num_segments} both give the number of "
            f"frames; leave one of them out"
        )
    return [Views.parse(part) for part in args.views.split(",")]


def _add_complexity(
    rows: Sequence[dict[str, Any]], protocols: "Sequence[Views]", args: Namespace
) -> None:
    """Give each row what its model costs with each number of frames."""
    from gtdnet.models.complexity import complexity

    with progress_bar("models", len(rows)) as advance:
        for row in rows:
            row["complexity"] = []
            for frames in dict.fromkeys(v.frames for v in protocols):
                cost = complexity(row["name"], args.num_classes, frames, args.crop_size)
                macs = {str(v): cost.macs * v.per_video for v in protocols if v.frames == frames}
                view = {"num_segments": frames, "crop_size": args.crop_size}
                row["complexity"].append({**view, **asdict(cost), "macs_of_protocol": macs})
            advance(1)


def _costs(rows: Sequence[dict[str, Any]], protocols: "Sequence[Views]", crop_size: int) -> str:
    from gtdnet.models.build import parts_of
    from gtdnet.models.complexity import Views

    kinds = [k for k in dict.fromkeys(v[1:] for v in protocols) if k != (1, 1)]
    heads = ["model", "frames", "M parameters", "GMACs a view"]
    heads += [f"GMACs {crops}x{clips}" for crops, clips in kinds]
    table = [[*heads, "MiB inference", "MiB training"]]
    for row in rows:
        for cost in row["complexity"]:
            frames, macs = cost["num_segments"], cost["macs_of_protocol"]
            asked = [macs.get(str(Views(frames, *kind))) for kind in kinds]
            numbers = [f"{cost['parameters'] / 1e6:.2f}", f"{cost['macs'] / 1e9:.2f}"]
            numbers += ["" if m is None else f"{m / 1e9:.1f}" for m in asked]
            numbers += [f"{cost[k] / 2**20:.0f}" for k in ("inference_bytes", "training_bytes")]
            table.append([row["name"], str(frames), *numbers])
    lines = [
        aligned(table),
        "",
        f"GMACs: billions of multiply-accumulates, of a view of {crop_size}x{crop_size} pixels, "
        f"and of all crops x clips views.",
        "MiB: activations of one clip in float32, alive at a time in inference and kept for the "
        "backward pass in training; weights come on top.",
    ]
    methods = [parts_of(row["name"]).method for row in rows]
    for name, frames in {m.name: m.frames_per_segment for m in methods}.items():
        if frames > 1:
            lines.append(
                f"{name}_*: each of the frames stands for a segment of {frames} neighbouring ones."
            )
    return "\n".join(lines)
