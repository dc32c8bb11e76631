"""gtdnet pack: store a dataset for fast reading."""

from gtdnet.commands import EXIT_DONE, Outcome
from gtdnet.commands.parser import Namespace, Parser, options
from gtdnet.data.formats import FORMATS
from gtdnet.data.pack.write import PackOptions, pack, summary
from gtdnet.files import check_place
from gtdnet.spread.each import RUNNERS
from gtdnet.text import progress_counter

EXAMPLE = "gtdnet pack data/mine data/mine-packed"
OLD_NAMES = {"--splits": "--split", "--workers": "--num_workers"}


def fill(parser: Parser) -> None:
    parser.add_class_arguments(
        PackOptions, None, as_group=False, as_positional=True, skip={"splits", "workers"}
    )
    parser.add_argument(
        "--split",
        type=str | None,
        default=None,
        help="splits to pack, as train,validation; default: all there are",
    )
    parser.add_argument(
        "--num_workers",
        type=int | None,
        default=None,
        help="encoding processes, or actors of Ray; default: one per core",
    )
    parser.show_choices(format=FORMATS, runner=RUNNERS)


def run(args: Namespace) -> Outcome:
    check_place(args.output)
    with progress_counter("packing clips") as progress:
        args.splits, args.workers = args.split, args.num_workers
        result = pack(options(PackOptions, args), progress)
    return EXIT_DONE, result, summary(result)
