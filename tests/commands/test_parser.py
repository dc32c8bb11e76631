"""Words, read by a parser of two positional arguments and one of none."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gtdnet.commands.parser import Parser, options
from gtdnet.errors import InputError


@dataclass
class Options:
    """Options

    Args:
        num_segments: frames.
        lr: rate.
        limit: at most.
        antialias: or not.
        overwrite: what is there.
        keep: all.
        milestones: epochs.
        model_options: of the model.
    """

    num_segments: int = 8
    lr: float = 0.01
    limit: int | None = None
    antialias: bool | None = None
    overwrite: bool = False
    keep: bool = True
    milestones: list[int] = field(default_factory=list)
    model_options: dict[str, Any] = field(default_factory=dict)


def read(words: str, positional: bool = False) -> Any:
    parser = Parser(words.split(), prog="gtdnet test")
    if positional:
        parser.add_argument("model")
        parser.add_argument("videos", nargs="*", default=["all"])
    parser.add_class_arguments(Options, None)
    return parser.parse()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", Options()),
        ("--num_segments 4", Options(4)),
        ("--num-segments=4", Options(4)),
        ("--lr 1e-3", Options(lr=0.001)),
        ("--limit 3 --limit null", Options()),
        ("--overwrite", Options(overwrite=True)),
        ("--overwrite true", Options(overwrite=True)),
        ("--overwrite=true --overwrite false", Options()),
        ("--overwrite --keep false --lr 1", Options(overwrite=True, keep=False, lr=1.0)),
        ("--antialias false", Options(antialias=False)),
        ("--milestones [3,5]", Options(milestones=[3, 5])),
        ("--model_options.width 0.5", Options(model_options={"width": 0.5})),
        (
            "--model-options.fold-div=4 --model_options.width 1",
            Options(model_options={"fold_div": 4, "width": 1}),
        ),
        ("--model-options.a-b=c-d", Options(model_options={"a_b": "c-d"})),
    ],
)
def test_options(words: str, expected: Options) -> None:
    assert options(Options, read(words)) == expected


@pytest.mark.parametrize(
    ("words", "model", "videos"),
    [
        ("m", "m", ["all"]),
        ("m a b", "m", ["a", "b"]),
        ("--model m a", "m", ["a"]),
        ("a b --model=m", "m", ["a", "b"]),
        ("m --videos a b --keep", "m", ["a", "b"]),
        ("--videos a --model m", "m", ["a"]),
        ("--overwrite true m a", "m", ["a"]),
    ],
)
def test_positional_arguments(words: str, model: str, videos: list[str]) -> None:
    args = read(words, positional=True)
    assert (args.model, args.videos) == (model, videos)


def test_given_are_the_options_of_the_command_line() -> None:
    args = read("m --num-segments 4 --model_options.width=1 --keep", positional=True)
    assert args.given == ["--num_segments", "--model_options.width", "--keep"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--num_segments many", "--num_segments: expected a whole number, got 'many'"),
        ("--num-segments 1.5", "--num_segments: expected a whole number, got '1.5'"),
        ("--lr fast", "--lr: expected a number, got 'fast'"),
        ("--lr value:x", "--lr: expected a number, got 'value:x'"),
        ("--limit x", "--limit: expected a whole number, got 'x'"),
        ("--limit [1]", "--limit: expected a whole number, got '[1]'"),
        ("--antialias 1", "--antialias: expected true or false, got '1'"),
        ("--overwrite maybe", "--overwrite: expected true or false, got 'maybe'"),
        ("--overwrite=", "--overwrite: expected true or false, got ''"),
        ("--milestones 3", """--milestones: expected a list such as [1,2] or ["a","b"], got '3'"""),
        ("--milestones [a]", "--milestones: expected a whole number, got 'a'"),
        ("--model_options 3", "--model_options: expected a mapping such as {width: 0.5}, got '3'"),
        ("--lr", "argument --lr: expected one argument"),
        ("x", "unrecognized argument 'x'"),
        ("--num-segmens 4", "unrecognized option --num_segmens; did you mean --num_segments?"),
        ("--num_segmens=4", "unrecognized option --num_segmens; did you mean --num_segments?"),
        ("-num_segments 4", "unrecognized option -num_segments; did you mean --num_segments?"),
        (
            "--model-option.width 1",
            "unrecognized option --model_option.width; did you mean --model_options.width?",
        ),
        ("--colour red", "unrecognized option --colour"),
        ("--num 4", "unrecognized option --num"),  # no abbreviations
    ],
)
def test_complaints_are_one_sentence(words: str, complaint: str) -> None:
    with pytest.raises(InputError) as raised:
        read(words)
    assert str(raised.value) == f"{complaint} (see gtdnet test --help)"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("", "the following arguments are required: model"),
        ("--videos", "the following arguments are required: model"),
        ("m --modle x", "unrecognized option --modle; did you mean --model?"),
        ("m a --overwrite maybe", "unrecognized argument 'maybe'"),
        ("m --lr 1 --", "unrecognized option --"),
    ],
)
def test_complaints_of_positional_arguments(words: str, complaint: str) -> None:
    with pytest.raises(InputError) as raised:
        read(words, positional=True)
    assert str(raised.value) == f"{complaint} (see gtdnet test --help)"


def test_required_options_are_named_with_their_dashes() -> None:
    parser = Parser(["--keep", "x"], prog="gtdnet test")
    parser.add_argument("--to", required=True)
    parser.add_argument("--keep")
    parser.add_argument("checkpoint")
    with pytest.raises(InputError, match=r"required: --to, checkpoint \(see gtdnet test --help\)"):
        parser.parse()


def test_choices_are_shown_in_help() -> None:
    parser = Parser(prog="gtdnet test")
    parser.add_argument("--format", default=None, help="of the data")
    parser.show_choices(format=["folder", "list"])
    assert "--format {folder,list}" in parser.format_help()


@pytest.fixture
def dashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("-abc_000010.mp4", "-h_000020.mp4", "--my-clip.mp4", "-1.mp4"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["-abc_000010.mp4", "-h_000020.mp4", "--my-clip.mp4", "-1.mp4"])
def test_names_of_files_that_begin_with_a_dash(dashed: Path, name: str) -> None:
    with pytest.raises(InputError) as raised:
        read(f"m a.mp4 {name}", positional=True)
    remedy = f"{name} is taken for an option; write ./{name}, or -- before the file names"
    assert str(raised.value) == f"{remedy} (see gtdnet test --help)"
    for words in ("m --num-segments 4 --", "--num-segments 4 m --", "--num-segments 4 -- m"):
        parser = Parser([*words.split(), "a.mp4", name], prog="gtdnet test")
        parser.add_argument("model")
        parser.add_argument("videos", nargs="+")
        parser.add_class_arguments(Options, None)
        args = parser.parse()
        assert (args.model, args.videos, args.num_segments) == ("m", ["a.mp4", name], 4)
    assert read(f"m ./{name}", positional=True).videos == [f"./{name}"]


def test_words_after_two_dashes_are_no_options(dashed: Path) -> None:
    args = read("--keep m -- --overwrite --num-segments", positional=True)
    assert args.videos == ["--overwrite", "--num-segments"]
    assert args.given == ["--keep"]
