from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from PIL import Image

import gtdnet
from gtdnet import __version__, cli
from gtdnet.cli import COMMANDS, main


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["trian"], []])
def test_import_stays_light(words: list[str]) -> None:
    """And the command line tool answers before anything heavy is imported."""
    program = (
        f"import sys, gtdnet.cli; gtdnet.cli.main({words});"
        "heavy = 'torch lightning matplotlib rich jsonargparse tensorboard numpy av'.split();"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "[]"), done.stderr


def test_console_script() -> None:
    script = Path(sys.executable).with_name("gtdnet")
    done = subprocess.run([str(script), "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"gtdnet {__version__}\n")


def test_reader_that_goes_away() -> None:
    program = f"{sys.executable} -m gtdnet models | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.returncode in (0, 1)


def test_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    overview = capsys.readouterr().out
    for name, title in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(title)}$", overview, re.MULTILINE)
    assert max(map(len, overview.splitlines())) <= 80
    assert main([]) == 2
    assert capsys.readouterr().out == overview


def on_terminal(*words: str) -> tuple[int, list[str]]:
    """The exit code and the lines of Python on a terminal of 80 letters a line."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, *words]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs) as process:
        os.close(theirs)
        said = b""
        with contextlib.suppress(OSError):  # Linux's word for the end of a terminal
            while piece := os.read(ours, 65536):
                said += piece
    os.close(ours)
    return process.returncode, said.decode().splitlines()


def test_no_word_is_broken_on_a_terminal(tmp_path: Path) -> None:
    for name in ("jump", "run"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (32, 32)).save(tmp_path / name / f"{name}.gif")
    command = ["check", str(tmp_path)]
    piped = subprocess.run(
        [sys.executable, "-m", "gtdnet", *command], capture_output=True, text=True
    )
    code, lines = on_terminal("-m", "gtdnet", *command)
    assert code == piped.returncode
    assert max(map(len, piped.stdout.splitlines())) > 80  # there is something to break
    shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", "\n".join(lines)).split("\n")
    assert {line for line in shown if len(line) > 80 and " " in line.strip()} == set()
    words_of_it = [w for w in piped.stdout.split() if not re.search(r"\d", w)]  # but seconds
    assert [w for w in words_of_it if w not in " ".join(shown).split()] == []


def test_a_message_does_not_stand_behind_a_bar() -> None:
    program = (
        "from gtdnet.text import progress_bar, say\n"
        "with progress_bar('videos', 3) as advance:\n    say('engine torch')\n"
        "say('done')"
    )
    code, lines = on_terminal("-c", program)
    shown = [re.sub(r".*\x1b\[2K|\x1b\[[\d;?]*[a-zA-Z]", "", line) for line in lines]
    assert code == 0
    assert [line for line in shown if "engine" in line or "done" in line] == [
        "engine torch",
        "done",
    ]


def test_what_programs_read_is_not_broken() -> None:
    code, lines = on_terminal("-m", "gtdnet", "completion", "bash")
    assert (code, max(map(len, lines)) > 80) == (0, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("teach", "no command 'teach'; choose one of demo, models, synth"),
        ("trian", "no command 'trian'; did you mean train?\n"),
        ("eval model", "no command 'eval'; did you mean evaluate?\n"),
        ("bench-data", "no command 'bench-data'; did you mean bench data?\n"),
        ("--import", "argument --import: expected one argument\n"),
        (
            "--import no_such models",
            "--import no_such cannot be imported (ModuleNotFoundError: No module named "
            "'no_such'); mend it or leave it out\n",
        ),
        ("models --import .x", "--import .x cannot be imported (TypeError: "),
    ],
)
def test_bad_words(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"gtdnet: {message}")
    assert err.count("\n") == 1


def test_debug_shows_where(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        main(["check", str(tmp_path / "nowhere"), "--debug"])


# -------------------------------------------------------------------------- other people's modules

GREET = """
from gtdnet.cli import register_command

EXAMPLE = "gtdnet greet you --loud"

def fill(parser):
    parser.add_argument("who", help="whom to greet")
    parser.add_argument("--loud", type=bool, default=False, help="with an exclamation mark")

def run(args):
    return 0, {"greeted": args.who}, f"hello {args.who}" + "!" * args.loud

register_command("greet", "say hello", __name__)
"""


@pytest.fixture
def greet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with a command, in the current directory."""
    monkeypatch.setattr(cli, "COMMANDS", dict(COMMANDS))
    monkeypatch.setattr(cli, "_MODULES", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "greet_module", raising=False)
    (tmp_path / "greet_module.py").write_text(GREET)
    return "greet_module"


@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_module_of_the_users_may_add_a_command(
    greet: str, place: int, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["greet", "you", "--loud"]
    words[place:place] = ["--import", greet]
    assert main(words) == 0
    assert capsys.readouterr().out == "hello you!\n"
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"greeted": "you"}
    assert main(["--help", f"--import={greet}"]) == 0
    assert re.search(r"^  greet +say hello$", capsys.readouterr().out, re.MULTILINE)


def test_words_behind_two_dashes_are_no_options(
    greet: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for word in ("--debug", "--import", f"--import={greet}", "--json"):
        assert main(["--import", greet, "greet", "--", word]) == 0
        assert capsys.readouterr().out == f"hello {word}\n"
    assert main(["no_such", "--", "--debug"]) == 2  # with --debug it would raise


def test_several_modules(
    greet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "broken_module", raising=False)
    (tmp_path / "broken_module.py").write_text("raise OSError('no\\nluck')")
    assert main(["--import", greet, "greet", "you", "--import", "broken_module"]) == 2
    assert capsys.readouterr().err == (
        "gtdnet: --import broken_module cannot be imported (OSError: no); mend it or leave it out\n"
    )


def test_an_installed_package_may_add_a_command(
    greet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    info = tmp_path / "greet-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greet\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[gtdnet.plugins]\ngreet = {greet}\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["greet", "you"]) == 0
    assert capsys.readouterr().out == "hello you\n"

    (info / "entry_points.txt").write_text("[gtdnet.plugins]\ngreet = no_such_module\n")
    assert main(["models"]) == 2
    assert capsys.readouterr().err.startswith(
        "gtdnet: the plugin greet (no_such_module) cannot be imported (ModuleNotFoundError: "
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a process there")
def test_ctrl_c_while_it_is_imported(tmp_path: Path) -> None:
    """130 and one word, where what is imported takes its time."""
    slow = tmp_path / "jsonargparse.py"
    slow.write_text("import sys, time\nprint('here', flush=True)\ntime.sleep(60)\n")
    program = (
        "import builtins, sys, gtdnet.__main__ as m\noriginal = builtins.__import__\n"
        "def slowly(name, *rest, **more):\n"
        "    if name == 'gtdnet.cli':\n        original('jsonargparse')\n"
        "    return original(name, *rest, **more)\n"
        "builtins.__import__ = slowly\nsys.exit(m.main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(gtdnet.__file__).parents[1]}"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "gtdnet: interrupted\n")


@pytest.mark.parametrize(
    "plugin",
    [
        "exec('import os; os.kill(os.getpid(), 2)')",  # as within a dataclass
        "import os; os.kill(os.getpid(), 2)",
        # Up to Python 3.11 this is a RuntimeError.
        "import os\nclass A:\n    def __set_name__(self, *_): os.kill(os.getpid(), 2)\n"
        "class B:\n    a = A()",
    ],
)
def test_ctrl_c_is_130_wherever_it_comes(tmp_path: Path, plugin: str) -> None:
    (tmp_path / "plugin.py").write_text(plugin)
    process = subprocess.run(
        [sys.executable, "-m", "gtdnet", "models", "--import", "plugin"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(gtdnet.__file__).parents[1]}"},
        capture_output=True,
        text=True,
    )
    assert (process.returncode, process.stderr) == (130, "gtdnet: interrupted\n")


def test_ctrl_c_while_python_ends(tmp_path: Path) -> None:
    """Nor a traceback from what is still to do at its end."""
    (tmp_path / "plugin.py").write_text(
        "import atexit, os, time\natexit.register(lambda: [os.kill(os.getpid(), 2), time.sleep(9)])"
    )
    process = subprocess.run(
        [sys.executable, "-m", "gtdnet", "--version", "--import", "plugin"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(gtdnet.__file__).parents[1]}"},
        capture_output=True,
        text=True,
    )
    assert (process.returncode, process.stderr) == (130, "")


def test_ctrl_c_within_an_exec_is_an_exit_code_too() -> None:
    """Dataclasses are made by one; Python would end by killing itself, though it was caught."""
    code = (
        "import sys, gtdnet.cli; from gtdnet.__main__ import main; sys.argv = ['gtdnet', 'train'];"
        "gtdnet.cli._run = lambda *_: exec('import os; os.kill(os.getpid(), 2)');"
        "sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "gtdnet train: interrupted\n")
