"""gtdnet ablate: train the variants of a grid and compare them."""

from gtdnet.ablate.run import AblateOptions, ablate, table
from gtdnet.commands import EXIT_DONE, EXIT_FAILED, Outcome
from gtdnet.commands.parser import Namespace, Parser, options

EXAMPLE = "gtdnet ablate benchmarks/ablation.yaml --data data/ablation/clips"


def fill(parser: Parser) -> None:
    parser.add_class_arguments(AblateOptions, None, as_group=False, as_positional=True)


def run(args: Namespace) -> Outcome:
    result = ablate(options(AblateOptions, args))
    failed = any(run["status"] == "failed" for run in result["runs"])
    text = f"{table(result)}\n\nresults: {result['output']}"
    return EXIT_FAILED if failed else EXIT_DONE, result, text
