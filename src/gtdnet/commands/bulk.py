"""gtdnet bulk: name the action in any number of videos, on many processes or machines."""

from __future__ import annotations

from gtdnet.bulk.options import BulkOptions
from gtdnet.commands import EXIT_DONE, EXIT_FAILED, Outcome
from gtdnet.commands.parser import MODEL, Namespace, Parser, options
from gtdnet.engines import engine_names
from gtdnet.spread.each import RUNNERS
from gtdnet.weights.hub import check_is_there

EXAMPLE = "gtdnet bulk runs/first clips.parquet --to answers"


def fill(parser: Parser) -> None:
    parser.add_argument("model", help=MODEL)
    parser.add_argument(
        "listing",
        help="table of clips (*.parquet, *.csv, *.tsv: columns path, id), or a folder; local or a "
        "URL (s3://, gs://, https://, ...)",
    )
    parser.add_class_arguments(BulkOptions, None, as_group=False, skip={"model", "listing"})
    parser.show_choices(runner=("auto", *RUNNERS), engine=[*engine_names(), "auto"])


def run(args: Namespace) -> Outcome:
    check_is_there(args.model)
    from gtdnet.bulk.run import bulk

    summary = bulk(options(BulkOptions, args))
    none = summary.failed == summary.rows
    return EXIT_FAILED if none else EXIT_DONE, summary.to_json(), summary.text()
