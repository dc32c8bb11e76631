"""gtdnet check: decode every clip of a dataset."""

from dataclasses import dataclass
from pathlib import Path

from gtdnet.commands import EXIT_DONE, EXIT_FAILED, Outcome
from gtdnet.commands.parser import Namespace, Parser
from gtdnet.data.check import check_dataset, format_report
from gtdnet.data.formats import FORMATS
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
    """

    data: str
    format: str | None = None
    split: str | None = None
    num_segments: int = 8
    num_workers: int | None = None
    manifest: str | None = None


def fill(parser: Parser) -> None:
    parser.add_class_arguments(CheckOptions, None, as_group=False, as_positional=True)
    parser.show_choices(format=FORMATS)


def run(args: Namespace) -> Outcome:
    with progress_counter("decoding clips") as progress:
        report = check_dataset(
            args.data,
            format=args.format,
            splits=args.split.split(",") if args.split else None,
            num_segments=args.num_segments,
            workers=args.num_workers,
            manifest=Path(args.manifest) if args.manifest else None,
            progress=progress,
        )
    code = EXIT_DONE if report.ok and not report.not_written else EXIT_FAILED
    return code, report.to_dict(), format_report(report)
