"""gtdnet check: decode every clip of a dataset, or single clips."""

import os
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gtdnet.commands import EXIT_DONE, EXIT_FAILED, Outcome, write
from gtdnet.commands.parser import Namespace, Parser
from gtdnet.data.check import (
    check_dataset,
    fatal_report,
    format_clips,
    format_report,
    format_understanding,
    look_at,
    understand,
)
from gtdnet.data.formats import FORMATS
from gtdnet.data.formats.lookup import is_picture, is_video
from gtdnet.errors import InputError
from gtdnet.files import check_place
from gtdnet.infer.find import find_videos
from gtdnet.spread.each import RUNNERS, Spread, map_spread
from gtdnet.text import progress_counter
from gtdnet.workers import num_cores

EXAMPLE = "gtdnet check data/mine --manifest data/mine/good.json"
_LISTS = (".csv", ".tsv", ".txt", ".json")  # a file that is a dataset
OLD_NAMES = {"--splits": "--split", "--workers": "--num_workers"}


@dataclass
class CheckOptions:
    """Check a dataset, or single clips

    Args:
        data: dataset folder, list file or manifest; or clips: video files, folders of pictures,
            globs in quotes, or several of any.
        format: how it is laid out; default: recognised.
        split: splits to read, as train,validation; default: all there are.
        num_segments: clips with fewer frames count as short.
        num_workers: decoding processes, or actors of Ray; default: one per core.
        runner: what spreads the clips: processes of this machine, or a Ray cluster.
        ray_address: of the cluster, auto for the one of this machine; default: RAY_ADDRESS, else
            one is started here for this run.
        manifest: write the clips that decode to this new .json file, to train on with --data.
        sheet: write a contact sheet to this new .png file: a row a class, frames of a few clips;
            of more than 40 classes also NAME-2.png, ...
    """

    data: list[str]
    format: str | None = None
    split: str | None = None
    num_segments: int = 8
    num_workers: int | None = None
    runner: str = "processes"
    ray_address: str | None = None
    manifest: str | None = None
    sheet: str | None = None


def fill(parser: Parser) -> None:
    parser.add_argument(
        "data",
        nargs="+",
        help="dataset folder, list file or manifest; or clips: video files, folders of pictures, "
        "globs in quotes, or several of them",
    )
    parser.add_class_arguments(CheckOptions, None, as_group=False, skip={"data"})
    parser.show_choices(format=FORMATS, runner=RUNNERS)


def run(args: Namespace) -> Outcome:
    spread = Spread(args.runner, args.ray_address, args.num_workers)
    spread.chosen()
    if len(args.data) > 1 or _is_clip(args.data[0]):
        return _check_clips(args, spread)
    (args.data,) = args.data
    splits = args.split.split(",") if args.split else None
    understood = understand(args.data, args.format, splits)
    for place in (args.manifest, args.sheet):
        check_place(place)
    sheet = []
    if args.sheet:
        from gtdnet.show.sheet import sheet_files  # with it comes matplotlib

        sheet = sheet_files(args.sheet, len(understood.class_names))
    if not args.json:
        write(f"{format_understanding(understood)}\n")  # before the hours that decoding may take
    with progress_counter("decoding clips") as progress:
        report = check_dataset(
            args.data,
            num_segments=args.num_segments,
            workers=args.num_workers,
            manifest=Path(args.manifest) if args.manifest else None,
            progress=progress,
            understood=understood,
            spread=spread,
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


def _is_clip(word: str) -> bool:
    """Whether one word means a clip, or a pattern of clips, and not a dataset."""
    path = Path(word)
    if path.is_dir():
        with os.scandir(path) as entries:
            there = [(entry.name, entry.is_dir()) for entry in entries]
        return any(is_picture(name) for name, _ in there) and not any(i for _, i in there)
    return is_video(word) or (path.is_file() and path.suffix.lower() not in _LISTS)


def _check_clips(args: Namespace, spread: Spread) -> Outcome:
    for name in ("format", "split", "manifest", "sheet"):
        if getattr(args, name) is not None:
            raise InputError(f"--{name} is of a dataset, not of single clips; leave it out")
    if lists := [word for word in args.data if Path(word).suffix.lower() in _LISTS]:
        raise InputError(f"{lists[0]} is a dataset, not a clip; check it by itself")
    paths = list(map(str, find_videos(args.data)))
    workers = args.num_workers
    if workers is None:
        workers = min(num_cores(), len(paths) // 8)
    look = partial(look_at, num_segments=args.num_segments)
    with (
        progress_counter("decoding clips") as progress,
        closing(map_spread(look, paths, workers, spread, fatal_report)) as looked,
    ):
        found = {}
        for report in looked:
            found[report.path] = report
            progress(len(found), len(paths))
    reports = [found[path] for path in paths]
    ok = all(report.error is None for report in reports)
    result = {"ok": ok, "clips": [report.to_dict() for report in reports]}
    return EXIT_DONE if ok else EXIT_FAILED, result, format_clips(reports)
