"""gtdnet ensemble: average the probabilities of several evaluations."""

from gtdnet.commands import EXIT_DONE, Outcome
from gtdnet.commands.parser import Namespace, Parser, options
from gtdnet.errors import InputError
from gtdnet.evaluate.options import EnsembleOptions
from gtdnet.files import check_place

EXAMPLE = "gtdnet ensemble runs/f8/eval-validation-8x3x2 runs/f16/eval-validation-16x3x2"


def fill(parser: Parser) -> None:
    parser.add_argument(
        "members",
        nargs="+",
        help="folders that gtdnet evaluate or ensemble wrote, or their scores.npz; two or more",
    )
    parser.add_argument(
        "--weights",
        type=str,
        default=None,
        help="a number for each member, as 1,2; default: all count the same",
    )
    parser.add_class_arguments(EnsembleOptions, None, as_group=False, skip={"members", "weights"})


def run(args: Namespace) -> Outcome:
    if args.weights is not None:
        try:
            args.weights = [float(weight) for weight in args.weights.split(",")]
        except ValueError as error:
            raise InputError(
                f"--weights: expected numbers such as 1,2, got {args.weights!r}"
            ) from error
    check_place(args.output)
    from gtdnet.evaluate.ensemble import describe, ensemble

    result = ensemble(options(EnsembleOptions, args))
    return EXIT_DONE, result, describe(result)
