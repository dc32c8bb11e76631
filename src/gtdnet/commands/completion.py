"""gtdnet completion: a script that lets a shell complete commands, options and their values."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from importlib import import_module

from gtdnet.commands import EXIT_DONE, AsIs, Outcome
from gtdnet.commands.parser import Namespace, Parser, make_parser
from gtdnet.errors import check_choice

EXAMPLE = "gtdnet completion bash > ~/.local/share/bash-completion/completions/gtdnet"

Options = dict[str, list[str]]
"""Of a command: each option, and the values that it takes, if they are known."""


def fill(parser: Parser) -> None:
    parser.add_argument("shell", help=f"{', '.join(SHELLS)}")


def run(args: Namespace) -> Outcome:
    script = SHELLS[check_choice("shell", args.shell, SHELLS)](all_options(args.commands))
    return EXIT_DONE, {"shell": args.shell, "script": script}, AsIs(script.rstrip())


def all_options(commands: Mapping[str, str]) -> dict[str, Options]:
    """The options of commands, of each by name its module."""
    found = {}
    for name, module in commands.items():
        parser = make_parser(import_module(module), name, name)
        found[name] = {
            option: getattr(action, "shown_choices", None) or _values(action.metavar)
            for option, action in parser._option_string_actions.items()
            if option.startswith("--") and not option.endswith("+")
        }
    return found


def _values(metavar: object) -> list[str]:
    """Those of a metavar such as "{auto,cpu}"."""
    text = str(metavar)
    return text[1:-1].split(",") if text[:1] == "{" and text[-1:] == "}" else []


def bash(commands: dict[str, Options]) -> str:
    """Also read by zsh, by way of its bashcompinit."""
    lines = [
        "# gtdnet completion bash",
        "_gtdnet() {",
        '    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"',
        '    local command="${COMP_WORDS[1]}" options="" values=""',
        '    if [ "$COMP_CWORD" = 1 ]; then',
        f'        COMPREPLY=($(compgen -W "{" ".join(_first_words(commands))}" -- "$word"))',
        "        return",
        "    fi",
        '    case "$command ${COMP_WORDS[2]}" in',
    ]
    # Longer names first: "bench data" before "bench".
    for name, options in sorted(commands.items(), key=lambda item: -item[0].count(" ")):
        pattern = f'"{name}")' if " " in name else f'"{name} "*)'
        lines.append(f"    {pattern} options={shlex.quote(' '.join(options))}")
        given = {option: values for option, values in options.items() if values}
        if given:
            lines.append('        case "$before" in')
            for option, values in given.items():
                lines.append(f"        {option}) values={shlex.quote(' '.join(values))};;")
            lines.append("        esac")
        lines.append("        ;;")
    second = {n.partition(" ")[0]: [] for n in commands if " " in n}
    for name in commands:
        if " " in name:
            second[name.partition(" ")[0]].append(name.partition(" ")[2])
    lines += [
        "    esac",
        *(
            f'    [ "$command $COMP_CWORD" = "{first} 2" ] && options="$options {" ".join(rest)}"'
            for first, rest in second.items()
        ),
        '    if [ -n "$values" ]; then',
        '        COMPREPLY=($(compgen -W "$values" -- "$word"))',
        '    elif [ "${word#-}" != "$word" ]; then',
        '        COMPREPLY=($(compgen -W "$options" -- "$word"))',
        "    else",
        '        COMPREPLY=($(compgen -f -- "$word"))',
        "    fi",
        "}",
        "complete -o filenames -F _gtdnet gtdnet",
    ]
    return "\n".join(lines) + "\n"


def zsh(commands: dict[str, Options]) -> str:
    """bash's, which zsh reads."""
    return f"autoload -Uz bashcompinit && bashcompinit\n{bash(commands)}"


def fish(commands: dict[str, Options]) -> str:
    """A line for each option of each command."""
    lines = ["# gtdnet completion fish"]
    for name, options in commands.items():
        first, _, rest = name.partition(" ")
        if rest:
            seen = f"__fish_seen_subcommand_from {first}; and __fish_seen_subcommand_from {rest}"
            lines.append(f"complete -c gtdnet -n '__fish_seen_subcommand_from {first}' -a {rest}")
        else:
            seen = f"__fish_seen_subcommand_from {first}"
            lines.append(f"complete -c gtdnet -f -n __fish_use_subcommand -a {first}")
        for option, values in options.items():
            line = f"complete -c gtdnet -n '{seen}' -l {option.lstrip('-')}"
            lines.append(line + (f" -x -a '{' '.join(values)}'" if values else ""))
    return "\n".join(lines) + "\n"


def _first_words(commands: dict[str, Options]) -> list[str]:
    return list(dict.fromkeys(name.partition(" ")[0] for name in commands))


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}
