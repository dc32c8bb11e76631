"""gtdnet bench: time models by engine and precision."""

from gtdnet.bench.options import (
    MODULES,
    Choice,
    MeasureOptions,
    ModelBenchOptions,
    ModelChoice,
)
from gtdnet.commands import EXIT_DONE, EXIT_FAILED, Outcome
from gtdnet.commands.parser import Namespace, Parser, options
from gtdnet.engines import engine_names

EXAMPLE = "gtdnet bench gtdnet_resnet50 --engines torch,openvino --precisions fp32,bf16"


def fill(parser: Parser) -> None:
    add_choice(parser, ModelChoice)
    parser.list_words(engines=["auto", *engine_names(), *MODULES])


def add_choice(parser: Parser, choice: type[Choice]) -> None:
    """The arguments of a bench of models: which, in what settings, and how they are measured."""
    parser.add_argument(
        "models",
        nargs="*",
        default=["gtdnet_resnet50"],
        help="names, as gtdnet models lists them, or model files",
    )
    parser.add_class_arguments(choice, None, skip={"models"})
    parser.add_class_arguments(MeasureOptions, None)


def run(args: Namespace) -> Outcome:
    from gtdnet.bench.models import bench_models
    from gtdnet.bench.result import text

    result = bench_models(options(ModelBenchOptions, args))
    return EXIT_FAILED if "not_written" in result else EXIT_DONE, result, text(result)
