"""The picture of augmented clips shows what training gives to the network, under which label."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread, imsave

from gtdnet.cli import main
from gtdnet.data.dataset import Augmentation, Sample, TrainClips
from gtdnet.data.formats import read_annotations
from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.show import augment
from gtdnet.show.augment import AugmentOptions, draw_clips, output_file, show_augmented

RECIPE = "{model: gtdnet_resnet18, num_segments: 4, short_side: 36, crop_size: 32, flip: 1.0}"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Clips of pictures that are red on the left and blue on the right."""
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, :30, 0] = picture[:, 30:, 2] = 200
    for name in ("hand left", "hand right", "jump"):
        for clip in "ab":
            folder = tmp_path / "data" / "train" / name / clip
            folder.mkdir(parents=True)
            for number in range(5):
                imsave(folder / f"{number}.png", picture)
    return tmp_path / "data"


def clips(data: Path, flip: float) -> TrainClips:
    found = read_annotations(data, "train")
    spec = ClipSpec(found.class_names, num_segments=4, short_side=36, crop_size=32)
    return TrainClips(found.records, spec, Augmentation(flip=flip), seed=3)


@pytest.mark.parametrize(
    ("flip", "labels"),
    [
        (0.0, ["hand left", "hand right", "jump"]),
        (1.0, ["hand right", "hand left", "jump"]),
    ],
)
def test_it_draws_what_training_takes(data: Path, flip: float, labels: Sequence[str]) -> None:
    training = clips(data, flip)
    draws, failures = draw_clips(training, 3)
    assert not failures
    assert [d.before for d in draws[::2]] == ["hand left", "hand right", "jump"]  # evenly
    assert [d.after for d in draws[::2]] == labels
    assert {d.is_flipped for d in draws} == {flip == 1}
    for draw in draws:
        sample = training[draw.epoch, training.records.index(draw.record)]
        assert isinstance(sample, Sample)
        assert np.array_equal(draw.frames.transpose(0, 3, 1, 2), sample.views[0].numpy())
    epochs = [draw.epoch for draw in draws]
    assert epochs == [0, 1] * 3
    assert any((draws[i].frames != draws[i + 1].frames).any() for i in (0, 2, 4))


def test_a_broken_clip_is_named(data: Path) -> None:
    (data / "train/jump/a/3.png").write_bytes(b"")
    (data / "train/jump/a/2.png").write_bytes(b"")
    training = clips(data, 0)
    draws, failures = draw_clips(training, 6)
    assert len(draws) == 10
    assert len(failures) == 1
    assert failures[0].path.startswith(str(data / "train/jump/a"))


def test_the_command(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.yaml").write_text(RECIPE)
    words = ["show", "--augment", "--data", str(data), "--recipe", str(tmp_path / "mine.yaml")]
    words += ["--output", str(tmp_path / "out")]
    assert main([*words, "--clips", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["files"] == [str(tmp_path / "out/augment.png")]
    assert found["options"]["flip"] == 1
    assert [(c["label"], c["trained_as"], c["epoch"]) for c in found["clips"]] == [
        ("hand left", "hand right", 1),
        ("hand left", "hand right", 2),
        ("hand right", "hand left", 1),
        ("hand right", "hand left", 2),
    ]
    picture = imread(tmp_path / "out/augment.png")[..., :3]
    red, blue = (
        np.where(np.abs(picture - np.array(c) / 255).max(axis=-1) < 0.1)[1]
        for c in ((200, 0, 0), (0, 0, 200))
    )
    frames = (augment.MARGIN + augment.NAMES + augment.CELL) * augment.DPI  # to the right of it
    assert blue[blue > frames].min() < red[red > frames].min()  # mirrored
    assert main(words) == 2
    assert "augment.png exists; add --overwrite" in capsys.readouterr().err


def test_a_run_has_its_own_clips_and_options(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(f"{RECIPE[:-1]}, data: {data}}}")
    found = show_augmented(AugmentOptions(run=str(run), output=str(tmp_path / "a.svg")))
    assert (tmp_path / "a.svg").is_file()
    assert [draw["flipped"] for draw in found["clips"]] == [True] * 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--augment", "no dataset given; say where the clips are with --data PATH"),
        ("--augment --data nowhere", "The dataset nowhere does not exist"),
        ("nowhere --augment", "nowhere: is not a run directory"),
        ("run clip.mp4 --augment", "--augment draws training clips, not clip.mp4; leave it out"),
        ("--augment --data x --class up", "--class does not go with --augment; leave it out"),
        ("model.safetensors", "the following arguments are required: video"),
        ("model.safetensors clip.mp4 --data x", "--data goes with --augment; add it, or leave"),
    ],
)
def test_what_does_not_go_together(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", *words.split()]) == 2
    assert message in capsys.readouterr().err


def test_where_it_is_written(tmp_path: Path) -> None:
    assert output_file(tmp_path) == tmp_path / "augment.png"
    assert output_file("a/b.pdf") == Path("a/b.pdf")
    with pytest.raises(InputError, match=r"give a folder or a file in \.png, \.pdf, \.svg"):
        output_file("a.html")
