"""gtdnet predict: name the action in video files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gtdnet.commands import EXIT_BAD_INPUT, EXIT_DONE, EXIT_FAILED, AsIs, Outcome, complain
from gtdnet.commands.parser import MODEL, Namespace, Parser, options
from gtdnet.engines import engine_names
from gtdnet.files import check_place
from gtdnet.infer.options import PredictOptions
from gtdnet.text import counted
from gtdnet.weights.hub import check_is_there

if TYPE_CHECKING:
    from gtdnet.infer.answers import Report

EXAMPLE = "gtdnet predict runs/first clip.mp4 more/*.webm"
COMPUTES = True


def fill(parser: Parser) -> None:
    parser.add_argument("model", help=MODEL)
    parser.add_argument(
        "videos", nargs="+", help="video files, folders, folders of frames, or globs in quotes"
    )
    parser.add_class_arguments(PredictOptions, None, as_group=False, skip={"model", "videos"})
    parser.show_choices(engine=[*engine_names(), "auto"])
    parser.add_argument("--csv", type=bool, default=False, help="print comma-separated values")


def run(args: Namespace) -> Outcome:
    check_is_there(args.model)
    for place in (args.output, args.features, args.timeline, args.draw):
        check_place(place)
    from gtdnet.infer.predict import predict

    report = predict(options(PredictOptions, args))
    only = report.videos[0] if len(report.videos) == 1 and not report.num_before else None
    if only and only.reason is not None and not (only.scores or only.windows):
        complain("gtdnet predict", f"{only.path}: {only.reason}")
        return EXIT_BAD_INPUT, report.to_json(), ""
    return EXIT_FAILED if report.num_failed else EXIT_DONE, report.to_json(), _text(report, args)


def _text(report: Report, args: Namespace) -> Any:
    """What people read: the answers, unless a file has them; then how many there are."""
    from gtdnet.infer.render import render_table, to_csv

    if args.csv:
        return AsIs(to_csv(report).rstrip())
    if not args.output:
        return render_table(report)
    number = len(report.videos) + report.num_before
    failed = f", of which {report.num_failed} failed" if report.num_failed else ""
    return "\n".join([f"{counted(number, 'video')}{failed}", *report.files])
