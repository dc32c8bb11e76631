"""gtdnet show: draw how a model sees a clip."""

from gtdnet.commands import EXIT_DONE, Outcome
from gtdnet.commands.parser import Namespace, Parser, options
from gtdnet.files import check_place
from gtdnet.show.options import ShowOptions
from gtdnet.weights.hub import check_is_there

EXAMPLE = "gtdnet show runs/first clip.mp4 --output clip.html"
COMPUTES = True


def fill(parser: Parser) -> None:
    parser.add_class_arguments(
        ShowOptions, None, as_group=False, as_positional=True, skip={"class_name"}
    )
    parser.add_argument(
        "--class",
        dest="class_name",
        type=str,
        default=None,
        metavar="NAME|NUMBER",
        help="the class that the activation maps are about; default: the predicted one",
    )


def run(args: Namespace) -> Outcome:
    check_is_there(args.model)
    check_place(args.output)
    from gtdnet.infer.render import percent
    from gtdnet.show.run import show

    result = show(options(ShowOptions, args))
    lines = [f"{percent(c['probability']):>7}  {c['name']}" for c in result["prediction"]]
    return EXIT_DONE, result, "\n".join([*lines, *result["notes"], *result["files"]])
