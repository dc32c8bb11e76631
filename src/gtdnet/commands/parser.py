"""How the words of a command are read, and what is said of those that do not fit."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, TypeVar

from jsonargparse import ArgumentParser, Namespace

from gtdnet.commands.help import HelpFormatter
from gtdnet.errors import InputError, nearest

T = TypeVar("T")

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": 'a list such as [1,2] or ["a","b"]',
    "dict": "a mapping such as {width: 0.5}",
}


_MOST_CHOICES = 48  # letters beside an option; of more its help tells


COMMON_CHOICES = {
    "device": ("auto", "cpu", "cuda", "mps"),
    "precision": ("auto", "fp32", "bf16", "fp16"),
    "average": ("probabilities", "logits"),
}
"""What options of these names take in every command that says nothing else."""

MODEL = (
    "run folder, model file (*.safetensors), exported one (*.onnx, *.xml) or its folder, or "
    "hf://user/name"
)
"""Help of an argument that takes any model."""


class Parser(ArgumentParser):
    """jsonargparse's parser, with any spelling of an option and complaints of one sentence.

    Options may be written --num-segments or --num_segments, positional arguments also --NAME VALUE,
    and a switch may go without its "true".

    Attributes:
        given: the options of the command line in their order, each with the word that follows.
    """

    def __init__(self, words: Sequence[str] = (), **kwargs: Any) -> None:
        end = words.index("--") if "--" in words else len(words)
        self._plain, self._values = words[:end], list(words[end:])  # words after -- are values
        self.words = [_underscored(word) for word in self._plain]
        self.given = [
            (option, value if equals else following)
            for word, following in zip(self.words, [*self.words[1:], ""], strict=False)
            for option, equals, value in [word.partition("=")]
            if option.startswith("--")
        ]
        kwargs = {"formatter_class": HelpFormatter, **kwargs}
        super().__init__(exit_on_error=False, allow_abbrev=False, **kwargs)

    def add_argument(self, name: str, *aliases: str, **kwargs: Any) -> Any:
        """As argparse's, but a positional argument that is given as --NAME is an option."""
        # jsonargparse copies this method to the class of its groups, which have a parser.
        given = dict(getattr(self, "parser", self).given)
        if not name.startswith("-") and f"--{name}" in given:
            kwargs["required"] = kwargs.get("nargs") not in ("?", "*")
            name = f"--{name}"
        return super().add_argument(name, *aliases, **kwargs)

    def show_choices(self, **choices: Iterable[str]) -> None:
        """Let help and completion list what some options take; the function behind checks it."""
        for action in self._actions:
            if action.dest in choices:
                listed = ",".join(choices[action.dest])
                vars(action)["shown_choices"] = listed.split(",")
                if len(listed) <= _MOST_CHOICES:
                    action.metavar = f"{{{listed}}}"
                else:  # no terminal has room for them beside the option
                    action.help = f"{action.help} One of {listed.replace(',', ', ')}."

    def lead(self, title: str, usage: str, *dests: str) -> None:
        """Let help begin with a short usage and some options, under a title of their own."""
        self.usage = f"{self.prog} {usage}"
        group = self._gather(title, *dests)
        groups: list[Any] = self._action_groups  # type: ignore[assignment]
        groups.remove(group)
        groups.insert(0, group)

    def close(self) -> None:
        """Let help begin with what must be given, and end with what most commands take."""
        self.show_choices(
            **{
                action.dest: COMMON_CHOICES[action.dest]
                for action in self._actions
                if action.dest in COMMON_CHOICES
                and action.default in (None, *COMMON_CHOICES[action.dest])
                and not hasattr(action, "shown_choices")
            }
        )
        if self.usage is None:
            musts = [a for a in self._actions if a.required and a.option_strings]
            words = [f"{a.option_strings[0]} {a.dest.upper()}" for a in musts]
            for action in self._actions:
                if not action.option_strings:
                    word = f"{action.dest.upper()}{' ...' if action.nargs in ('+', '*') else ''}"
                    words.append(f"[{word}]" if action.nargs in ("?", "*") else word)
            self.usage = " ".join([self.prog, *words, "[options]"])
        self._gather("common options", "threads", "json", "debug", "import", "help")

    def _gather(self, title: str, *dests: str) -> Any:
        """A new last group of help with some options that others had."""
        group = self.add_argument_group(title)
        moved = {a.dest: a for a in self._actions if a.dest in dests}
        for other in self._action_groups:
            other._group_actions[:] = [a for a in other._group_actions if a.dest not in moved]
        group._group_actions.extend(moved[dest] for dest in dests if dest in moved)
        return group

    def list_words(self, **words: Iterable[str]) -> None:
        """Let help list the words of which some options take several, with commas between."""
        for action in self._actions:
            if action.dest in words:
                action.help = f"{action.help} Of {', '.join(words[action.dest])}."

    def parse(self) -> Namespace:
        """The values of all arguments, and in ``given`` the options that were given."""
        args = self.parse_args(self._with_true())
        args.given = [option for option, _ in self.given]
        return args

    def _with_true(self) -> list[str]:
        """The words, with "=true" after a switch that stands alone.

        argparse's nargs="?" would take the next word for its value in "ensemble --common a b".
        """
        switches = {f"--{k}" for k, value in self.get_defaults().items() if isinstance(value, bool)}
        positional = any(not action.option_strings for action in self._actions)
        words = []
        for word, following in zip(self.words, [*self.words[1:], "-"], strict=False):
            is_value = following in ("true", "false") or not (
                positional or following.startswith("-")
            )
            words.append(f"{word}=true" if word in switches and not is_value else word)
        return words + self._values

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise InputError of one sentence for what jsonargparse says in several lines."""
        options = {a.dest: (a.option_strings or [a.dest])[0] for a in self._actions}
        what, _, names = message.partition(": ")
        if file := next((w for w in self._plain if w[0:1] == "-" and _is_there(w)), None):
            message = f"{file} is taken for an option; write ./{file}, or -- before the file names"
        elif what == "the following arguments are required":  # jsonargparse leaves their dashes out
            message = f"{what}: {', '.join(options.get(n, n) for n in names.split(', '))}"
        elif what == "unrecognized arguments":
            message = self._unknown([n for n in names.split() if n != "--"] or ["--"])
        elif kinds := [w for k, w in _KINDS.items() if f"Expected a <class '{k}'>" in message]:
            # Parser key "lr": Expected a <class 'float'>. Got value: fast
            option, value = message.split('"')[1], message.partition(" value: ")[2]
            message = f"{options[option]}: expected {' or '.join(kinds)}, got {value!r}"
        raise InputError(f"{message} (see {self.prog} --help)") from ex

    def _unknown(self, words: Sequence[str]) -> str:
        option = next((word.partition("=")[0] for word in words if word.startswith("-")), None)
        if option is None:
            return f"unrecognized argument {words[0]!r}"
        name, dot, key = option.partition(".")
        known = {o.lstrip("-"): o for o in self._option_string_actions}
        known |= {a.dest: f"--{a.dest}" for a in self._actions if not a.option_strings}
        near = nearest(name, known.values())
        guess = f"; did you mean {near}{dot}{key}?" if near else ""
        return f"unrecognized option {option}{guess}"


def read(command: ModuleType, name: str, title: str, words: Sequence[str]) -> Namespace:
    """The arguments of a command from the words after its name; InputError if one does not fit."""
    return make_parser(command, name, title, words).parse()


def make_parser(command: ModuleType, name: str, title: str, words: Sequence[str] = ()) -> Parser:
    """What reads these words as the arguments of a command."""
    parser = Parser(
        [_present(word, getattr(command, "OLD_NAMES", {})) for word in words],
        prog=f"gtdnet {name}",
        description=f"{title[0].upper()}{title[1:]}.",
        epilog=f"example:\n  {command.EXAMPLE}",
    )
    command.fill(parser)
    if is_computing(command):
        parser.add_argument(
            "--threads",
            type=int | None,
            default=None,
            help="that compute; default: OMP_NUM_THREADS, else one for each core that is free",
        )
    parser.add_argument(
        "--json", type=bool, default=False, help="print one JSON object on stdout as the last line"
    )
    # The command line takes these two out of the words; help shows them here.
    parser.add_argument(
        "--debug", action="store_true", help="on an error, show where in the code it arose"
    )
    parser.add_argument(
        "--import",
        type=str,
        default=None,
        metavar="MODULE",
        help="a Python module to import first, which may add models, formats, ...; repeatable",
    )
    parser.close()
    return parser


def is_computing(command: ModuleType) -> bool:
    """Whether a command runs networks, and so takes --threads."""
    return getattr(command, "COMPUTES", False)


def options(kind: type[T], args: Namespace) -> T:
    """The options of a dataclass, from the arguments of the same names."""
    return kind(**{field.name: args[field.name] for field in fields(kind)})  # type: ignore[arg-type]


def _is_there(word: str) -> bool:
    try:
        return Path(word).exists()
    except OSError:  # too long for a name
        return False


def _present(word: str, old_names: Mapping[str, str]) -> str:
    """--workers=2 as --num_workers=2, where a command says that this is what it is called now."""
    option, equals, value = word.partition("=")
    return f"{old_names.get(option, option)}{equals}{value}"


def _underscored(word: str) -> str:
    """--num-segments=x as --num_segments=x; aliases would fill the help and miss keys of dicts."""
    if not word.startswith("--"):
        return word
    option, equals, value = word[2:].partition("=")
    return f"--{option.replace('-', '_')}{equals}{value}"
