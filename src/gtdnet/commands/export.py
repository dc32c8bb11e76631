"""gtdnet export: write a model for other runtimes."""

from gtdnet.commands import EXIT_DONE, EXIT_FAILED, Outcome, complain
from gtdnet.commands.parser import Namespace, Parser, options
from gtdnet.data.formats import FORMATS
from gtdnet.export.options import ExportOptions
from gtdnet.files import check_place
from gtdnet.weights.hub import check_is_there

EXAMPLE = "gtdnet export runs/first exported --precision bf16"
COMPUTES = True


def fill(parser: Parser) -> None:
    parser.add_class_arguments(ExportOptions, None, as_group=False, as_positional=True)
    parser.show_choices(format=FORMATS, precision=("fp32", "bf16", "int8"))


def run(args: Namespace) -> Outcome:
    check_is_there(args.model)
    check_place(args.output)
    from gtdnet.export.run import ExportFailed, export, summary

    try:
        result = export(options(ExportOptions, args))
    except ExportFailed as error:
        complain("gtdnet export", str(error))
        return EXIT_FAILED, None, ""
    return EXIT_DONE, result, summary(result)
