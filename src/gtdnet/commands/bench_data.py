"""gtdnet bench data: time the reading of clips."""

from gtdnet.bench.options import DataBenchOptions
from gtdnet.commands import EXIT_DONE, EXIT_FAILED, Outcome
from gtdnet.commands.parser import Namespace, Parser, options
from gtdnet.data.formats import FORMATS

EXAMPLE = "gtdnet bench data data/mine data/packed --num_workers 2"


def fill(parser: Parser) -> None:
    parser.add_argument(
        "data",
        nargs="+",
        help="dataset folders, list files or manifests; several are compared with the first",
    )
    parser.add_class_arguments(DataBenchOptions, None, as_group=False, skip={"data"})
    parser.show_choices(format=FORMATS)


def run(args: Namespace) -> Outcome:
    from gtdnet.bench.data import bench_data
    from gtdnet.bench.result import text

    result = bench_data(options(DataBenchOptions, args))
    return EXIT_FAILED if "not_written" in result else EXIT_DONE, result, text(result)
