"""gtdnet evaluate: measure a model on every clip of a split."""

from gtdnet.commands import EXIT_DONE, Outcome
from gtdnet.commands.parser import Namespace, Parser, options
from gtdnet.data.formats import FORMATS
from gtdnet.engines.open import ENGINES
from gtdnet.evaluate import EvaluateOptions, evaluate
from gtdnet.evaluate.diagnose import describe
from gtdnet.evaluate.protocol import summary

EXAMPLE = "gtdnet evaluate runs/first/model.safetensors --data data/ssv2 --clips 2 --crops 3"
COMPUTES = True


def fill(parser: Parser) -> None:
    parser.add_argument(
        "model", help="model file (*.safetensors), exported one (*.onnx, *.xml), or hf://user/name"
    )
    parser.add_class_arguments(EvaluateOptions, None, as_group=False, skip={"model"})
    parser.show_choices(format=FORMATS, engine=[*ENGINES, "auto"])


def run(args: Namespace) -> Outcome:
    result = evaluate(options(EvaluateOptions, args))
    text = summary(result)
    if args.diagnose:
        text += "\n\n" + describe(result["diagnosis"])
    return EXIT_DONE, result, text
