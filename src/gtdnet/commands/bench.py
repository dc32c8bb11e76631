"""gtdnet bench: time models by engine and precision."""

from gtdnet.bench.engines import MODULES
from gtdnet.bench.models import ModelBenchOptions, ModelChoice, bench_models
from gtdnet.bench.options import Choice, MeasureOptions
from gtdnet.bench.result import text
from gtdnet.commands import EXIT_DONE, Outcome
from gtdnet.commands.parser import Namespace, Parser, options
from gtdnet.engines.open import ENGINES

EXAMPLE = "gtdnet bench gtdnet_resnet50 --engines torch,openvino --precisions fp32,bf16"


def fill(parser: Parser) -> None:
    add_choice(parser, ModelChoice)
    parser.list_words(engines=["auto", *ENGINES, *MODULES])


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
    result = bench_models(options(ModelBenchOptions, args))
    return EXIT_DONE, result, text(result)
