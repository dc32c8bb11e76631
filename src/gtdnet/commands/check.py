"""gtdnet check: decode every clip of a dataset."""

from dataclasses import dataclass
from pathlib import Path

from gtdnet.commands import EXIT_DONE, EXIT_FAILED, Outcome, show
from gtdnet.commands.parser import Namespace, Parser
from gtdnet.data.check import check_dataset, format_report, format_understanding, understand
from gtdnet.data.formats import FORMATS
from gtdnet.files import check_place
from gtdnet.text import progress_counter

EXAMPLE = "gtdnet check data/mine --manifest data/mine/good.json"
OLD_NAMES = {"--splits": "--split", "--workers": "--num_workers"}


@dataclass
class CheckOptions:
    """Check a dataset

    Args:
        data: dataset folder, list file or manifest.
        format: how it is laid out; default: recognised.
        split: splits to read, as train,validation; default: all there are.
        num_segments: clips with fewer frames count as short.
        num_workers: decoding processes; default: one per core.
        manifest: write the clips that decode to this new .json file, to train on with --data.
        sheet: write a contact sheet to this new .png file: a row a class, frames of a few clips;
            of more than 40 classes also NAME-2.png, ...
    """

    data: str
    format: str | None = None
    split: str | None = None
    num_segments: int = 8
    num_workers: int | None = None
    manifest: str | None = None
    sheet: str | None = None


def fill(parser: Parser) -> None:
    parser.add_class_arguments(CheckOptions, None, as_group=False, as_positional=True)
    parser.show_choices(format=FORMATS)


def run(args: Namespace) -> Outcome:
    splits = args.split.split(",") if args.split else None
    understood = understand(args.data, args.format, splits)
    for place in (args.manifest, args.sheet):
        check_place(place)
    sheet = []
    if args.sheet:
        from gtdnet.show.sheet import sheet_files  # with it comes matplotlib

        sheet = sheet_files(args.sheet, len(understood.class_names))
    if not args.json:
        show(f"{format_understanding(understood)}\n")  # before the hours that decoding may take
    with progress_counter("decoding clips") as progress:
        report = check_dataset(
            args.data,
            num_segments=args.num_segments,
            workers=args.num_workers,
            manifest=Path(args.manifest) if args.manifest else None,
            progress=progress,
            understood=understood,
        )
    result, text = report.to_dict(), format_report(report, understanding=False)
    if sheet:
        from gtdnet.show.sheet import save_sheet

        with progress_counter("drawing classes") as progress:
            save_sheet(report, sheet, progress)
        result["sheet"] = list(map(str, sheet))
        text += f"\nContact sheet: {', '.join(result['sheet'])}"
    code = EXIT_DONE if report.ok and not report.not_written else EXIT_FAILED
    return code, result, text
