"""gtdnet evaluate: measure a model on every clip of a split."""

from pathlib import Path

from gtdnet.commands import EXIT_DONE, EXIT_FAILED, Outcome
from gtdnet.commands.parser import MODEL, Namespace, Parser, options
from gtdnet.data.formats import FORMATS, SPLITS, check_dataset_is_there
from gtdnet.engines import engine_names
from gtdnet.evaluate.options import FRAME_ORDERS, EvaluateOptions
from gtdnet.files import check_place
from gtdnet.weights.hub import check_is_there

EXAMPLE = "gtdnet evaluate runs/first --data data/ssv2 --clips 2 --crops 3"
COMPUTES = True
SPREADS = True


def fill(parser: Parser) -> None:
    parser.add_argument("model", help=MODEL)
    parser.add_class_arguments(EvaluateOptions, None, as_group=False, skip={"model"})
    parser.show_choices(
        format=FORMATS, split=SPLITS, frames=FRAME_ORDERS, engine=[*engine_names(), "auto"]
    )


def run(args: Namespace) -> Outcome:
    check_is_there(args.model)
    if args.data is not None:
        check_dataset_is_there(args.data)
    if args.output or not args.model.startswith("hf://"):
        beside = args.model if Path(args.model).is_dir() else Path(args.model).parent
        check_place(args.output or Path(beside, "eval"))
    from gtdnet.evaluate.diagnose import describe
    from gtdnet.evaluate.protocol import summary
    from gtdnet.evaluate.run import evaluate

    result = evaluate(options(EvaluateOptions, args))
    if not result:  # another process has it
        return EXIT_DONE, None, ""
    text = summary(result)
    if args.diagnose:
        text += "\n\n" + describe(result["diagnosis"])
    return EXIT_FAILED if "not_written" in result else EXIT_DONE, result, text
