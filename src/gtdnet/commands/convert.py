"""gtdnet convert: make an official checkpoint a model file."""

from gtdnet.commands import EXIT_DONE, Outcome
from gtdnet.commands.parser import Namespace, Parser, options
from gtdnet.data.spec import INTERPOLATIONS, SAMPLINGS
from gtdnet.weights.convert.options import ConvertOptions

EXAMPLE = "gtdnet convert tsm_sthv2.pth --to tsm.safetensors --classes something-v2"


def fill(parser: Parser) -> None:
    parser.add_argument("checkpoint", help="the file (.pth, .pth.tar, .safetensors, ...)")
    parser.add_class_arguments(ConvertOptions, None, as_group=False, skip={"checkpoint"})
    parser.show_choices(sampling=SAMPLINGS, interpolation=INTERPOLATIONS)


def run(args: Namespace) -> Outcome:
    from gtdnet.weights.convert import convert

    result = convert(options(ConvertOptions, args))
    lines = [
        f"{result.path}: {result.model} (from {result.source}), {result.num_classes} classes, "
        f"num_segments {result.num_segments}",
        *(f"  {note}" for note in result.notes),
        f"use it with: gtdnet predict {result.path} VIDEO",
    ]
    return EXIT_DONE, result.to_dict(), "\n".join(lines)
