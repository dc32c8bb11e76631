"""gtdnet bench train: time training steps."""

from gtdnet.bench.options import SETTINGS, TrainBenchOptions, TrainChoice
from gtdnet.commands import EXIT_DONE, EXIT_FAILED, Outcome
from gtdnet.commands.bench import add_choice
from gtdnet.commands.parser import Namespace, Parser, options

EXAMPLE = "gtdnet bench train gtdnet_resnet50 --settings default,fp32-nchw,compile"


def fill(parser: Parser) -> None:
    add_choice(parser, TrainChoice)
    parser.show_choices(settings=SETTINGS)


def run(args: Namespace) -> Outcome:
    from gtdnet.bench.result import text
    from gtdnet.bench.train import bench_train

    result = bench_train(options(TrainBenchOptions, args))
    return EXIT_FAILED if "not_written" in result else EXIT_DONE, result, text(result)
