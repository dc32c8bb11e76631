"""gtdnet train: train a model, from a recipe or a run that was stopped."""

import sys
from dataclasses import asdict
from pathlib import Path

import yaml

from gtdnet.commands import EXIT_DONE, EXIT_INTERRUPTED, EXIT_TERMINATED, AsIs, Outcome
from gtdnet.commands.parser import Namespace, Parser, options
from gtdnet.data.formats import FORMATS, check_dataset_is_there
from gtdnet.data.spec import SAMPLINGS
from gtdnet.errors import InputError
from gtdnet.files import check_place
from gtdnet.text import first_line, say, terminal_width
from gtdnet.train.choice import fill_in, may_choose, situation
from gtdnet.train.config import (
    FREEZES,
    GROUPS,
    INITS,
    OPTIMIZERS,
    SCHEDULES,
    STRATEGIES,
    TrainConfig,
    check_is_run,
    find_recipe,
    list_recipes,
)
from gtdnet.weights.hub import check_is_there

EXAMPLE = "gtdnet train --recipe gtdnet_r50_8f_ssv2 --data data/ssv2 --name first"
COMPUTES = True
SPREADS = True
_PROCESSES = ("--devices", "--num_nodes", "--timeout")
_WITH_RESUME = ("--resume", "--threads", "--json", *_PROCESSES)


def fill(parser: Parser) -> None:
    parser.add_argument(
        "--recipe",
        "--config",
        type=str,
        default=None,
        help=f"options from a YAML file or a recipe of this package: {', '.join(list_recipes())}; "
        f"what is given beside it wins",
    )
    parser.add_argument(
        "--resume",
        type=str,
        default=None,
        metavar="RUN",
        help="continue the run in this directory at the step where it stopped",
    )
    for group in GROUPS:
        parser.add_class_arguments(group, None)
    parser.show_choices(
        format=FORMATS,
        sampling=SAMPLINGS,
        init=INITS,
        freeze=FREEZES,
        optimizer=OPTIMIZERS,
        schedule=SCHEDULES,
        strategy=STRATEGIES,
    )
    parser.add_argument(
        "--print_config",
        type=bool,
        default=False,
        help="print all options of the run as YAML, which --config takes, and train nothing",
    )
    parser.lead(
        "What matters most",
        "--data PATH [--recipe NAME] [--model NAME] [options]",
        *("data", "recipe", "model", "pretrained", "epochs", "batch_size", "lr", "name", "output"),
        *("resume", "print_config"),
    )
    parser.set_defaults(model=None)  # until it is chosen
    # As defaults, so that what is given wins wherever the recipe stands among the words.
    for recipe in [value for option, value in parser.given if option in ("--recipe", "--config")]:
        parser.set_defaults(asdict(TrainConfig.load(find_recipe(recipe))))


def run(args: Namespace) -> Outcome:
    if args.resume:
        extra = [option for option in args.given if option not in _WITH_RESUME]
        if extra:
            raise InputError(
                f"{extra[0]} cannot be changed by --resume, which takes every option from the "
                f"run's config.yaml; start a new run with --config {args.resume}/config.yaml"
            )
        check_is_run(args.resume)
        check_place(Path(args.resume, "last.ckpt"))
        from gtdnet.train.run import resume

        result = resume(args.resume, **{o[2:]: args[o[2:]] for o in args.given if o in _PROCESSES})
    else:
        config, choice = _config(args)
        if args.print_config:
            if choice:
                say(choice)
            values = asdict(config)
            return EXIT_DONE, values, AsIs(yaml.safe_dump(values, sort_keys=False).rstrip())
        check_dataset_is_there(config.data)
        if config.init_from:
            check_is_there(config.init_from)
        check_place(Path(config.output, config.name or "run"))
        from gtdnet.train.run import train

        if choice:
            say(choice)
        result = train(config)
    stopped = EXIT_TERMINATED if result.terminated else EXIT_INTERRUPTED
    code = EXIT_DONE if result.finished else stopped
    if not result.is_first:
        return code, None, ""
    beside = f" ({result.told})" if result.told else ""
    lines = [f"model: {result.model}{beside}"] if result.model else []
    page, curves = _last_words(result.folder) if result.finished else (None, "")
    if page:
        lines.append(f"report: {page}")
    text = "\n".join([*([curves, ""] if curves else []), *lines])
    return code, {**result.to_dict(), "report": page}, text


def _config(args: Namespace) -> tuple[TrainConfig, str]:
    """What was asked for; where that says nothing of the network, what is chosen, and why."""
    given = {option[2:].partition(".")[0] for option in args.given}
    is_open = args.model is None and may_choose(given, args.pretrained)
    args.model = args.model or TrainConfig.model
    if not is_open:
        return options(TrainConfig, args), ""
    args.pretrained = "imagenet"  # without which some options are refused
    config = options(TrainConfig, args)
    if config.data or not args.print_config:
        check_dataset_is_there(config.data)
    return fill_in(config, given, situation(config))


def _last_words(folder: Path) -> tuple[str | None, str]:
    """The page about a finished run, and its curve and classes; their failing costs them alone."""
    from gtdnet.evaluate.training import best_validation, summary, write_validation
    from gtdnet.report.report import ReportOptions, report

    page, curves = None, ""
    try:
        evaluation = best_validation(folder)
        curves = summary(folder, evaluation, terminal_width(sys.stdout))
        if TrainConfig.load(folder / "config.yaml").report:
            if evaluation is not None:
                write_validation(folder, evaluation)
            written = report(ReportOptions([str(folder)], overwrite=True))
            page = written["output"]
            if written["not_written"]:
                raise InputError(written["not_written"])
    except (Exception, KeyboardInterrupt) as error:
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else first_line(error)
        say(
            f"the run is done, but its report could not be made ({why}); try gtdnet report {folder}"
        )
    return page, curves
