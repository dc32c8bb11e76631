"""gtdnet predict: name the action in video files."""

from gtdnet.commands import EXIT_BAD_INPUT, EXIT_DONE, EXIT_FAILED, Outcome, complain
from gtdnet.commands.parser import Namespace, Parser, options
from gtdnet.engines import engine_names
from gtdnet.infer.options import PredictOptions
from gtdnet.weights.hub import check_is_there

EXAMPLE = "gtdnet predict runs/first/model.safetensors clip.mp4 more/*.webm"
COMPUTES = True


def fill(parser: Parser) -> None:
    parser.add_argument(
        "model", help="model file (*.safetensors), exported one (*.onnx, *.xml), or hf://user/name"
    )
    parser.add_argument(
        "videos", nargs="+", help="video files, folders, folders of frames, or globs in quotes"
    )
    parser.add_class_arguments(PredictOptions, None, as_group=False, skip={"model", "videos"})
    parser.show_choices(engine=[*engine_names(), "auto"])
    parser.add_argument("--csv", type=bool, default=False, help="print comma-separated values")


def run(args: Namespace) -> Outcome:
    check_is_there(args.model)
    from gtdnet.infer.predict import predict
    from gtdnet.infer.render import render_table, to_csv

    report = predict(options(PredictOptions, args))
    only = report.videos[0]
    if len(report.videos) == 1 and not (only.scores or only.windows):
        complain("gtdnet predict", f"{only.path}: {only.reason}")
        return EXIT_BAD_INPUT, report.to_json(), ""
    text = to_csv(report).rstrip() if args.csv else render_table(report)
    return EXIT_FAILED if report.num_failed else EXIT_DONE, report.to_json(), text
