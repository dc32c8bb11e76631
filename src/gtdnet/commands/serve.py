"""gtdnet serve: a page and an interface for programs, on one port."""

from __future__ import annotations

import sys
from importlib import import_module

from gtdnet.commands import EXIT_DONE, Outcome, write
from gtdnet.commands.parser import Namespace, Parser, options
from gtdnet.engines import engine_names
from gtdnet.errors import InputError
from gtdnet.serve.options import ServeOptions, split
from gtdnet.text import say
from gtdnet.weights.hub import check_is_there

EXAMPLE = "gtdnet serve runs/first"
COMPUTES = True


def fill(parser: Parser) -> None:
    parser.add_argument(
        "models",
        nargs="*",
        help="run folders, model files (*.safetensors), exported ones (*.onnx, *.xml) or their "
        "folders, hf://user/name; each may be given a name, as in lips=runs/first; none with "
        "--collect",
    )
    parser.add_class_arguments(ServeOptions, None, as_group=False, skip={"models"})
    parser.show_choices(engine=[*engine_names(), "auto"])


def run(args: Namespace) -> Outcome:
    for model in args.models:
        check_is_there(split(model)[1])
    for name in ("fastapi", "uvicorn", "websockets", "prometheus_client"):
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            raise InputError(
                f'{name} is not installed, which serve needs: pip install "gtdnet[serve]"'
            ) from error
    from gtdnet.serve.run import serve

    def ready(url: str) -> None:
        if args.json:
            write({"url": url, "models": list(args.models)})
            sys.stdout.flush()  # a program waits for it
        else:
            say(f"serving at {url}  (Ctrl-C ends)")

    serve(options(ServeOptions, args), ready)
    return EXIT_DONE, None, ""
