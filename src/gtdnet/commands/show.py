"""gtdnet show: draw how a model sees a clip, or how training clips are augmented."""

from gtdnet.commands import EXIT_DONE, Outcome
from gtdnet.commands.parser import Namespace, Parser, options
from gtdnet.data.formats import check_dataset_is_there
from gtdnet.errors import InputError
from gtdnet.files import check_place
from gtdnet.show.options import ShowOptions
from gtdnet.train.config import check_is_run, find_recipe
from gtdnet.weights.hub import check_is_there

EXAMPLE = "gtdnet show runs/first clip.mp4 --output clip.html"
COMPUTES = True
_OF_CLIPS = ("data", "recipe", "clips")  # options of --augment alone
_OF_MODELS = ("class_name", "num_segments")  # and of what it is not


def fill(parser: Parser) -> None:
    parser.usage = (
        f"{parser.prog} MODEL VIDEO [options]\n"
        f"       {parser.prog} [RUN] --augment [--data PATH] [--recipe NAME] [options]"
    )
    parser.add_argument(
        "model",
        nargs="?",
        type=str,
        help="a run folder, a model file (*.safetensors), or hf://user/name; with --augment a run "
        "folder or nothing",
    )
    parser.add_argument(
        "video", nargs="?", type=str, help="a video file or a folder of numbered pictures"
    )
    parser.add_class_arguments(
        ShowOptions, None, as_group=False, skip={"model", "video", "class_name"}
    )
    parser.add_argument(
        "--class",
        dest="class_name",
        type=str,
        default=None,
        metavar="NAME|NUMBER",
        help="the class that the activation maps are about; default: the predicted one",
    )
    parser.add_argument(
        "--augment",
        type=bool,
        default=False,
        help="draw some training clips as training gives them to the network: cropped, flipped "
        "(with the label that they then have), brightened; of a run, or of --data",
    )
    parser.add_argument(
        "--data",
        type=str | None,
        default=None,
        help="with --augment: the dataset; default: the run's",
    )
    parser.add_argument(
        "--recipe",
        type=str | None,
        default=None,
        help="with --augment: recipe or YAML file of options; default: the run's, or what gtdnet "
        "train would choose",
    )
    parser.add_argument(
        "--clips", type=int | None, default=None, help="with --augment: how many; default: 4"
    )


def run(args: Namespace) -> Outcome:
    if args.augment:
        return _augment(args)
    if given := [name for name in _OF_CLIPS if args[name] is not None]:
        raise InputError(f"--{given[0]} goes with --augment; add it, or leave --{given[0]} out")
    for name in ("model", "video"):
        if args[name] is None:
            raise InputError(
                f"the following arguments are required: {name} (see gtdnet show --help)"
            )
    check_is_there(args.model)
    check_place(args.output)
    from gtdnet.infer.render import percent
    from gtdnet.show.run import show

    result = show(options(ShowOptions, args))
    lines = [f"{percent(c['probability']):>7}  {c['name']}" for c in result["prediction"]]
    return EXIT_DONE, result, "\n".join([*lines, *result["notes"], *result["files"]])


def _augment(args: Namespace) -> Outcome:
    if args.video is not None:
        raise InputError(f"--augment draws training clips, not {args.video}; leave it out")
    for name in _OF_MODELS:
        if args[name] is not None:
            option = name.removesuffix("_name")
            raise InputError(f"--{option} does not go with --augment; leave it out")
    if args.model is not None:
        check_is_run(args.model)
    if args.recipe is not None:
        find_recipe(args.recipe)
    if args.model is None or args.data is not None:
        check_dataset_is_there(args.data or "")
    check_place(args.output)
    from gtdnet.show.augment import AugmentOptions, show_augmented

    clips = 4 if args.clips is None else args.clips
    result = show_augmented(
        AugmentOptions(args.model, args.data, args.recipe, clips, args.output, args.overwrite)
    )
    return EXIT_DONE, result, "\n".join([*result["notes"], *result["files"]])
