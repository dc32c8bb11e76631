"""gtdnet synth: write the built-in dataset."""

from dataclasses import dataclass

from gtdnet.commands import EXIT_DONE, Outcome
from gtdnet.commands.parser import Namespace, Parser, options
from gtdnet.data.formats import written_formats
from gtdnet.data.synthetic import EDITIONS, write_dataset
from gtdnet.text import progress_counter

EXAMPLE = "gtdnet synth data/synth --train 2000 --validation 400"
OLD_NAMES = {"--workers": "--num_workers"}


@dataclass
class SynthOptions:
    """Write the built-in dataset

    Args:
        root: folder to write; new, empty or an interrupted run's.
        format: how the dataset is laid out.
        edition: easy is learned in minutes on a CPU, hard is for the laboratory.
        train: training clips.
        validation: validation clips.
        test: test clips.
        seed: of everything random.
        size: shorter side in pixels; default: the edition's.
        num_workers: processes; default: one per core.
    """

    root: str
    format: str = "something-v2"
    edition: str = "full"
    train: int = 2000
    validation: int = 400
    test: int = 0
    seed: int = 0
    size: int | None = None
    num_workers: int | None = None


def fill(parser: Parser) -> None:
    parser.add_class_arguments(SynthOptions, None, as_group=False, as_positional=True)
    parser.show_choices(format=written_formats(), edition=EDITIONS)


def run(args: Namespace) -> Outcome:
    with progress_counter("writing clips") as progress:
        given = vars(options(SynthOptions, args))
        given["workers"] = given.pop("num_workers")
        summary = write_dataset(**given, progress=progress)
    text = (
        f"{args.root}: {args.train} training, {args.validation} validation and {args.test} test "
        f"clips of {len(summary['classes'])} classes ({args.edition} edition, {args.format})\n"
        f"check it with: gtdnet check {args.root}"
    )
    return EXIT_DONE, summary, text
