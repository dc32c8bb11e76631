"""gtdnet report: a page about one run, or several compared."""

from gtdnet.commands import EXIT_DONE, EXIT_FAILED, Outcome
from gtdnet.commands.parser import Namespace, Parser, options
from gtdnet.report.options import ReportOptions
from gtdnet.text import progress_counter

EXAMPLE = "gtdnet report runs/first runs/second --output report.html"


def fill(parser: Parser) -> None:
    parser.add_argument("runs", nargs="+", help="run directories, or folders of evaluations")
    parser.add_class_arguments(ReportOptions, None, as_group=False, skip={"runs"})


def run(args: Namespace) -> Outcome:
    from gtdnet.report.report import report, summary

    with progress_counter("reading frames") as progress:
        result = report(options(ReportOptions, args), progress)
    return EXIT_FAILED if result["not_written"] else EXIT_DONE, result, summary(result)
