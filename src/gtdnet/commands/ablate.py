"""gtdnet ablate: train the variants of a grid and compare them."""

from gtdnet.ablate.options import AblateOptions
from gtdnet.commands import EXIT_DONE, EXIT_FAILED, Outcome
from gtdnet.commands.parser import Namespace, Parser, options
from gtdnet.files import check_place

EXAMPLE = "gtdnet ablate benchmarks/ablation.yaml --data data/ablation/clips"
COMPUTES = True


def fill(parser: Parser) -> None:
    parser.add_class_arguments(AblateOptions, None, as_group=False, as_positional=True)


def run(args: Namespace) -> Outcome:
    check_place(args.output or "runs")
    from gtdnet.ablate.run import ablate
    from gtdnet.ablate.summary import table

    result = ablate(options(AblateOptions, args))
    failed = any(run["status"] == "failed" for run in result["runs"])
    failed |= "not_written" in result
    text = f"{table(result)}\n\nresults: {result['output']}"
    return EXIT_FAILED if failed else EXIT_DONE, result, text
