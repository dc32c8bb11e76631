"""gtdnet collect: labelled clips from a camera or a video."""

from __future__ import annotations

from gtdnet.collect.options import CollectOptions
from gtdnet.commands import EXIT_DONE, EXIT_FAILED, Outcome
from gtdnet.commands.parser import Namespace, Parser, options

EXAMPLE = "gtdnet collect data/mine 0 --classes wave,nod,nothing --per_class 10 --hands_free true"


def fill(parser: Parser) -> None:
    parser.add_class_arguments(CollectOptions, None, as_group=False, as_positional=True)


def run(args: Namespace) -> Outcome:
    from gtdnet.collect.run import advice, collect

    found = collect(options(CollectOptions, args))
    return EXIT_FAILED if found.reason else EXIT_DONE, found.to_json(), advice(found)
