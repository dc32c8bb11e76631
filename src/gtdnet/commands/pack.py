"""gtdnet pack: store a dataset for fast reading."""

from gtdnet.commands import EXIT_DONE, Outcome
from gtdnet.commands.parser import Namespace, Parser, options
from gtdnet.data.formats import FORMATS
from gtdnet.data.pack.write import PackOptions, pack, summary
from gtdnet.text import progress_counter

EXAMPLE = "gtdnet pack data/mine data/mine-packed"


def fill(parser: Parser) -> None:
    parser.add_class_arguments(PackOptions, None, as_group=False, as_positional=True)
    parser.show_choices(format=FORMATS)


def run(args: Namespace) -> Outcome:
    with progress_counter("packing clips") as progress:
        result = pack(options(PackOptions, args), progress)
    return EXIT_DONE, result, summary(result)
