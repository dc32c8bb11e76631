"""The command line: the commands by name, each imported when it is run; errors as exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module
from typing import TYPE_CHECKING

from gtdnet import __version__
from gtdnet.commands import (
    EXIT_BAD_INPUT,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_TERMINATED,
    complain,
    write,
)
from gtdnet.commands.plugins import import_given, import_installed
from gtdnet.errors import InputError, ProcessLost, nearest
from gtdnet.processes import ALONE, current, joined, keep_quiet
from gtdnet.processes.place import find_place
from gtdnet.threads import CoreWatch, choose_threads, let_idle_threads_sleep, use_threads
from gtdnet.workers import Terminated, keep_freed_memory, sigterm_raises

if TYPE_CHECKING:
    from gtdnet.commands.parser import Namespace

# What each does, in one line. "bench data" is gtdnet.commands.bench_data.
COMMANDS = {
    "demo": "make clips, check, train, evaluate and predict: minutes in all",
    "models": "list the models, their sizes, options and costs",
    "synth": "write the built-in dataset: clips that only time tells apart",
    "collect": "cut labelled clips by keyboard from a camera or a video",
    "check": "say what a dataset holds, what is wrong and how to mend it",
    "pack": "store a dataset for fast training: 8 frames cost 8 decodings",
    "train": "train a model on a dataset",
    "ablate": "train variants of a model with several seeds and compare them",
    "evaluate": "measure a model on every clip of a split, with any views",
    "ensemble": "average the probabilities of several evaluations",
    "calibrate": "learn when answers can be trusted, and what is nothing",
    "predict": "name the action in video files",
    "watch": "say what happens in cameras, streams and files, as it happens",
    "bulk": "name the action in any number of videos; resumable, Ray too",
    "report": "write one HTML page about a run, or several compared",
    "show": "draw how a model sees a clip: differences, scores, activations",
    "serve": "offer a page to try models on, and an interface for programs",
    "convert": "make an official checkpoint (TSM, mmaction2, ...) a model file",
    "push": "publish a model file with a model card on the Hugging Face hub",
    "export": "write a model as ONNX, OpenVINO and torch.export, checked",
    "bench": "time models beside the plain 2D network, by engine and precision",
    "bench data": "time the reading of clips, stage by stage",
    "bench train": "time training steps in several settings",
    "completion": "print a script that lets your shell complete commands",
}
_MODULES: dict[str, str] = {}  # of commands that are not in gtdnet.commands


def register_command(name: str, title: str, module: str) -> None:
    """Add a command of another package: its one line, and the module that is imported to run it."""
    COMMANDS[name] = title
    _MODULES[name] = module


def module_of(name: str) -> str:
    """The module of a command."""
    return _MODULES.get(name, f"gtdnet.commands.{name.replace(' ', '_')}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 failed, 2 bad input, 130 interrupted
    with Ctrl-C, 143 with SIGTERM."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    end = words.index("--") if "--" in words else len(words)
    who, debug = "gtdnet", "--debug" in words[:end]
    let_idle_threads_sleep()
    try:
        words = import_given([w for w in words[:end] if w != "--debug"] + words[end:])
        if not words or words[0] in ("-h", "--help", "help"):
            write(_overview())
            return EXIT_DONE if words else EXIT_BAD_INPUT
        if words[0] in ("-V", "--version"):
            print(f"gtdnet {__version__}")
            return EXIT_DONE
        name = _command(words)
        who = f"gtdnet {name}"
        with sigterm_raises():
            return _run(name, words[len(name.split()) :])
    except BrokenPipeError:
        # The reader of our output went away: what is still buffered must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except (KeyboardInterrupt, InterruptedError) as error:
        complain(who, str(error) or "interrupted")
        return EXIT_TERMINATED if isinstance(error, Terminated) else EXIT_INTERRUPTED
    except Exception as error:
        if debug:
            raise
        if _was_interrupted(error):
            complain(who, "interrupted")
            return EXIT_INTERRUPTED
        if isinstance(error, InputError):
            if not _says_another():
                complain(who, str(error))
            return EXIT_BAD_INPUT
        if isinstance(error, ProcessLost):
            complain(who, str(error))
            return EXIT_FAILED
        complain(who, f"failed: {type(error).__name__}: {error} (--debug: where)")
        return EXIT_FAILED


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C came in a place where Python makes it the cause of another exception."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__
    return error is not None


def _command(words: Sequence[str]) -> str:
    """The command that the words begin with."""
    import_installed()
    for name in (" ".join(words[:2]), words[0]):
        if name in COMMANDS:
            return name
    near = nearest(words[0], COMMANDS)
    remedy = f"did you mean {near}?" if near else f"choose one of {', '.join(COMMANDS)}"
    raise InputError(f"no command {words[0]!r}; {remedy}")


def _run(name: str, words: Sequence[str]) -> int:
    from gtdnet.commands.parser import is_computing, read

    watch = CoreWatch()
    keep_freed_memory()
    command = import_module(module_of(name))
    if spreads := getattr(command, "SPREADS", False):
        keep_quiet()
    args = read(command, name, COMMANDS[name], words)
    if name == "completion":
        args.commands = {command: module_of(command) for command in COMMANDS}
    if is_computing(command):
        use_threads(choose_threads(args.threads, watch, _processes(args)))
    with joined(args.timeout) if spreads else nullcontext():
        code, result, text = command.run(args)
    if args.json:
        if result is not None:
            write(result)
    elif isinstance(text, str):
        write(text)
    else:
        from rich.console import Console

        console = Console()
        if not console.is_terminal:  # a file or a program reads it: whole names, in one line
            console = Console(width=max(1, console.measure(text).maximum))
        console.print(text)
    sys.stdout.flush()
    return code


def _says_another() -> bool:
    """Whether this process is not the first of those that a launcher gave the same wrong words."""
    try:
        place = find_place()
    except InputError:  # which is what is wrong
        return False
    return place is not None and place.rank > 0 and current() is ALONE


def _processes(args: Namespace) -> int:
    """That share this machine."""
    place = find_place()
    return place.local_size if place else args.get("devices") or 1


def _overview() -> str:
    width = max(map(len, COMMANDS))
    titles = "\n".join(f"  {name:{width}}  {title}" for name, title in COMMANDS.items())
    return f"""usage: gtdnet COMMAND [options]      (gtdnet COMMAND --help teaches each)

Video action recognition with the Global Temporal Difference Network.

{titles}

Every command: --json prints one JSON object on stdout; --debug shows where an
error arose; --import MODULE imports a Python module of yours first.
Exit status: 0 done, 1 failed, 2 bad input, 130 interrupted, 143 terminated."""
