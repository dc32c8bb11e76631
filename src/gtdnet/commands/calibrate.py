"""gtdnet calibrate: learn on held-out clips when a model's answers can be trusted."""

from gtdnet.calibrate.options import CalibrateOptions
from gtdnet.commands import EXIT_DONE, Outcome
from gtdnet.commands.parser import Namespace, Parser, options
from gtdnet.data.formats import FORMATS, SPLITS, check_dataset_is_there
from gtdnet.weights.hub import check_is_there

EXAMPLE = "gtdnet calibrate runs/first --data data/ssv2 --background quiet/ --overwrite"
COMPUTES = True


def fill(parser: Parser) -> None:
    parser.add_argument(
        "model", help="run folder, model file (*.safetensors), or hf://user/name with --output"
    )
    parser.add_class_arguments(CalibrateOptions, None, as_group=False, skip={"model"})
    parser.show_choices(format=FORMATS, split=SPLITS)


def run(args: Namespace) -> Outcome:
    check_is_there(args.model)
    if args.data is not None:
        check_dataset_is_there(args.data)
    from gtdnet.calibrate.run import calibrate
    from gtdnet.calibrate.table import describe

    result = calibrate(options(CalibrateOptions, args))
    return EXIT_DONE, result, describe(result)
