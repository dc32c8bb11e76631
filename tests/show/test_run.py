from __future__ import annotations

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread, imsave
from numpy.typing import NDArray
from torch import nn

from gtdnet.cli import main
from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.infer import ClassScore, Recognizer
from gtdnet.models import ModelFile, create_model, save_model
from gtdnet.show.figure import draw, save_figure
from gtdnet.show.page import page
from gtdnet.show.run import ShowOptions, explain, find_class, numbers, output_files, show
from gtdnet.show.views import ClipViews, picture_rows

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "videos"
NAMES = (
    "Pretending or failing to wipe something off of something",
    "Putting something that cannot actually stand upright upright on the table",
    "costs $5 to $6 <b>now</b> & here",
    "挥手",
    "e" * 90,
    "f",
)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def recognizer(name: str = "gtdnet_resnet18", num_segments: int = 4, **options: Any) -> Recognizer:
    torch.manual_seed(0)
    model = create_model(name, len(NAMES), num_segments, width=0.125, **options)
    nn.init.normal_(model.classifier.weight, std=0.5)
    spec = ClipSpec(
        NAMES,
        num_segments=num_segments,
        short_side=36,
        crop_size=32,
        frames_per_segment=model.frames_per_segment,
    )
    return Recognizer(ModelFile(model, spec), "cpu")


@pytest.fixture(scope="module")
def gtdnet() -> Recognizer:
    return recognizer()


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    """[4, 36, 48, 3]: a white square that goes right over a coloured slope."""
    y, x = np.mgrid[:36, :48]
    clip = np.stack([np.stack([5 * y, 4 * x, 255 - 5 * y], axis=-1)] * 4).astype(np.uint8)
    for t in range(4):
        clip[t, 12:22, 6 + 8 * t : 16 + 8 * t] = 255
    return clip


def write_folder(folder: Path, frames: NDArray[np.uint8]) -> Path:
    folder.mkdir(parents=True)
    for i, frame in enumerate(frames):
        imsave(folder / f"{i:05}.png", frame)
    return folder


@pytest.fixture(scope="module")
def video(frames: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("videos") / "square", frames)


@pytest.fixture(scope="module")
def model_path(gtdnet: Recognizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return save_model(folder / "model.safetensors", gtdnet.model, gtdnet.spec)


def made_up(t: int, **changes: Any) -> ClipViews:
    """Views of T frames with the longest names there are."""
    rng = np.random.default_rng(t)
    values: dict[str, Any] = {
        "video": f"/videos/{'long-name-' * 20}.mp4",
        "model": "gtdnet_resnet50",
        "protocol": f"{t}x1x1, {t} frames (segment), short side 256, crop 224",
        "num_frames": 12345,
        "indices": np.arange(t) * 1000,
        "frames": rng.integers(0, 256, (t, 16, 16, 3), dtype=np.uint8),
        "logits": rng.standard_normal((t, 6)).astype(np.float32),
        "prediction": tuple(ClassScore(i, NAMES[i], (0.999, 0.001, 0.0)[i]) for i in range(3)),
        "target": ClassScore(0, NAMES[0], 0.999),
        "scores": rng.dirichlet(np.full(t, 0.3)),
        "activation": rng.standard_normal((t, 2, 2)).astype(np.float32),
    }
    return ClipViews(**{**values, **changes})


# ------------------------------------------------------------------------------------- numbers


def test_views_are_what_the_model_sees(
    gtdnet: Recognizer, video: Path, frames: NDArray[np.uint8]
) -> None:
    views = explain(gtdnet, video)
    assert (views.num_frames, views.indices.tolist()) == (4, [0, 1, 2, 3])
    np.testing.assert_array_equal(views.frames, frames[:, 2:34, 8:40])
    assert views.protocol == "4x1x1, 4 frames (segment), short side 36, crop 32"
    assert views.notes == ()


def test_prediction_is_that_of_gtdnet_predict(gtdnet: Recognizer, video: Path) -> None:
    for score, expected in zip(
        explain(gtdnet, video).prediction, gtdnet.predict(video, topk=3), strict=True
    ):
        assert score[:2] == expected[:2]
        assert score.probability == pytest.approx(expected.probability, abs=1e-6)


@pytest.mark.parametrize("label", [0, 5])
def test_activation_adds_up_to_the_logits(gtdnet: Recognizer, video: Path, label: int) -> None:
    views = explain(gtdnet, video, label)
    assert views.target[:2] == (label, NAMES[label])
    assert views.activation is not None
    bias = gtdnet.model.classifier.bias[label].item()
    np.testing.assert_allclose(
        views.activation.mean(axis=(1, 2)) + bias, views.logits[:, label], rtol=1e-4, atol=1e-4
    )


def test_scores_of_a_clip_that_moves(gtdnet: Recognizer, video: Path) -> None:
    scores = explain(gtdnet, video).scores
    assert scores is not None
    assert (scores >= 0).all()
    assert scores.sum() == pytest.approx(1)
    assert np.ptp(scores) > 0.01


def test_scores_of_a_clip_that_does_not_change(
    gtdnet: Recognizer, frames: NDArray[np.uint8], tmp_path: Path
) -> None:
    """Uniform, although temporal shift makes the gates of the first and last frame differ."""
    views = explain(gtdnet, write_folder(tmp_path / "still", frames[[1, 1, 1, 1]]))
    np.testing.assert_allclose(views.scores, 0.25, atol=1e-6)  # type: ignore[arg-type]
    assert not views.global_differences.any()


def test_scores_go_with_the_frames(frames: NDArray[np.uint8], tmp_path: Path) -> None:
    """Without shift and with the mean as z_m, no place in the clip is special."""
    without_places = recognizer(aggregation="avg", fold_div=1000)
    order = [2, 0, 3, 1]
    one = explain(without_places, write_folder(tmp_path / "a", frames)).scores
    other = explain(without_places, write_folder(tmp_path / "b", frames[order])).scores
    assert one is not None
    np.testing.assert_allclose(other, one[order], atol=1e-4)  # type: ignore[arg-type]
    assert np.ptp(one) > 0.01


def test_network_without_gtd_blocks(video: Path) -> None:
    views = explain(recognizer("tsm_resnet18"), video)
    assert views.scores is None
    assert views.notes == ("No global difference scores: tsm_resnet18 has no GTD block.",)
    assert numbers(views)["global_difference_scores"] is None


def test_middle_frames_of_segments(frames: NDArray[np.uint8], tmp_path: Path) -> None:
    video = write_folder(tmp_path / "long", np.concatenate([frames, frames[::-1], frames]))
    views = explain(recognizer("tdn_resnet18", num_segments=2), video)
    assert views.indices.tolist() == [4, 8]  # segments 2..6 and 6..10 of 12
    np.testing.assert_array_equal(views.frames, frames[[3, 0], 2:34, 8:40])
    assert views.logits.shape == (2, 6)


def test_model_is_left_as_it_was(gtdnet: Recognizer, video: Path) -> None:
    explain(gtdnet, video)
    assert not any(module._forward_hooks for module in gtdnet.model.modules())


def test_refuses_a_class_that_is_not_there(gtdnet: Recognizer, video: Path) -> None:
    with pytest.raises(InputError, match="no class 6: the model's are 0 to 5"):
        explain(gtdnet, video, 6)


def test_refuses_a_model_without_numbers(video: Path) -> None:
    broken = recognizer()
    nn.init.constant_(broken.model.classifier.weight, float("nan"))
    with pytest.raises(InputError, match="not finite"):
        explain(broken, video)


# ------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("text", "label"),
    [("f", 5), ("F", 5), ("挥手", 3), ("0", 0), ("5", 5), (NAMES[2], 2), (NAMES[1].upper(), 1)],
)
def test_find_class(gtdnet: Recognizer, text: str, label: int) -> None:
    assert find_class(text, gtdnet.spec) == label


def test_a_name_goes_before_a_number() -> None:
    assert find_class("0", ClipSpec(("one", "0"))) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("6", "--class 6: the model's classes are 0 to 5"),
        ("-1", "--class '-1' is none of the model's 6 classes; give its number"),
        ("cost $5 to $6 <b>now", f"did you mean {NAMES[2]!r}"),
    ],
)
def test_unknown_class(gtdnet: Recognizer, text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        find_class(text, gtdnet.spec)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("output", "files"),
    [
        ("a/b.png", ["a/b.png"]),
        ("b.HTML", ["b.HTML"]),
        ("paper.pdf", ["paper.pdf"]),
        ("folder", ["folder/clip.one.png", "folder/clip.one.html"]),
    ],
)
def test_output_files(output: str, files: list[str]) -> None:
    assert output_files(output, "videos/clip.one.mp4") == [Path(file) for file in files]


def test_output_of_another_kind() -> None:
    with pytest.raises(InputError, match=r"--output a\.jpg: give a folder or a file in \.png"):
        output_files("a.jpg", "clip.mp4")


# -------------------------------------------------------------------------------------- figure


@pytest.mark.parametrize("t", [1, 2, 8, 16, 17])
@pytest.mark.filterwarnings("ignore:Glyph")
def test_no_text_is_cut_or_lies_over_another(t: int) -> None:
    figure = draw(made_up(t))
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    width, height = figure.canvas.get_width_height()
    boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
    assert len(boxes) > 4 * t
    for i, box in enumerate(boxes):
        assert box.x0 >= 0 <= box.y0 and box.x1 <= width and box.y1 <= height
        for other in boxes[:i]:
            over = min(box.x1, other.x1) - max(box.x0, other.x0)
            above = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert over <= 0 or above <= 2  # descenders of neighbouring lines may touch


@pytest.mark.parametrize(
    "changes",
    [{"scores": None}, {"activation": None}, {"activation": np.full((4, 1, 1), -1, np.float32)}],
)
def test_figure_says_what_it_lacks(changes: dict[str, Any]) -> None:
    views = made_up(4, **changes)
    texts = [text.get_text() for text in draw(views).axes[0].texts]
    (note,) = views.notes
    assert any(note.startswith(text.rstrip("…")) for text in texts if len(text) > 20)


def test_figures_are_written_alike(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    views = made_up(2, target=ClassScore(3, NAMES[3], 0.2))
    files = [tmp_path / name for name in ("a.png", "b.png", "a.pdf")]
    for file in files:
        save_figure(views, file)
    assert files[0].read_bytes() == files[1].read_bytes()
    height, width = imread(files[0]).shape[:2]
    assert (width, 2000 < height < 3000) == (1600, True)
    assert files[2].read_bytes().startswith(b"%PDF")
    assert [str(w.message) for w in recwarn] == []


# ---------------------------------------------------------------------------------------- page


class Page(HTMLParser):
    """Notes start tags with their attributes, and the text; fails on what closes nothing."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "circle", "td"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag != "td":
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_needs_nothing_from_elsewhere() -> None:
    html = page(made_up(8))
    found = Page(html)
    pictures = [attributes for tag, attributes in found.tags if tag == "img"]
    assert len(pictures) == 1 + 8 + 7 + 8 + 8 + 8
    assert all((p["src"] or "").startswith("data:image/jpeg;base64,") for p in pictures)
    assert all(len(p["alt"] or "") > 5 for p in pictures)
    assert "http" not in html.replace("http-equiv", "")
    assert sum(tag == "svg" and "aria-label" in a for tag, a in found.tags) == 8
    assert not {"script", "b>now"} & {tag for tag, _ in found.tags}
    assert NAMES[2] in found.text


def test_hostile_names_are_words_on_the_page() -> None:
    def found(text: str) -> Page:
        best, target = ClassScore(0, f"best{text}", 0.5), ClassScore(1, f"target{text}", 0.2)
        names = {name: name + text for name in ("video", "model", "protocol")}
        one = made_up(3, **names, prediction=(best,), target=target)
        other = made_up(3, **names, prediction=(best,), target=target, scores=None, activation=None)
        return Page(page(one) + page(other))

    hostile = (
        "\"'><script>alert(1)</script><!--<img src=x onerror=alert(2)>&amp;{{ 7 * 7 }}\x00\ud800"
    )
    shown = hostile[:-2] + 2 * "\ufffd"
    page_found, harmless = found(hostile), found("x" * len(hostile))
    assert [(tag, list(attributes)) for tag, attributes in page_found.tags] == [
        (tag, list(attributes)) for tag, attributes in harmless.tags
    ]
    for place in ("best", "target", "model", "protocol"):
        assert place + shown in page_found.text
    assert any(f"what speaks for target{shown}" in str(a.get("alt")) for _, a in page_found.tags)


def test_page_without_scores_says_so() -> None:
    found = Page(page(made_up(4, scores=None, model="tsm_resnet50")))
    assert "No global difference scores: tsm_resnet50 has no GTD block." in found.text
    assert not any(tag == "svg" for tag, _ in found.tags)


def test_page_says_what_cannot_be_coloured() -> None:
    against = made_up(4, activation=np.full((4, 1, 1), -1, np.float32))
    assert f"Nothing in the clip speaks for “{NAMES[0]}”." in Page(page(against)).text


def test_rows_in_order() -> None:
    assert [(row.key, len(row.pictures), len(row.alts)) for row in picture_rows(made_up(3))] == [
        ("frames", 3, 3), ("local", 2, 2), ("global", 3, 3), ("enhanced", 3, 3),
        ("activation", 3, 3),
    ]  # fmt: skip
    assert "local" not in [row.key for row in picture_rows(made_up(1))]


# ------------------------------------------------------------------------------------- command


def test_show_writes_picture_and_page(
    model_path: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["show", str(model_path), str(video), "--output", str(tmp_path), "--device", "cpu"]
    assert main([*words, "--class", "f", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    files = [tmp_path / "square.png", tmp_path / "square.html"]
    assert [Path(file) for file in result["files"]] == files == sorted(tmp_path.iterdir())[::-1]
    assert result["frames"] == [0, 1, 2, 3]
    assert result["class"]["name"] == "f"
    assert sum(result["global_difference_scores"]) == pytest.approx(1, abs=1e-5)
    assert len(result["prediction"]) == 3
    assert len(result["class_probabilities"]) == len(result["class_logits"]) == 4

    before = files[0].read_bytes()
    assert main(words) == 2
    assert "square.png exists; add --overwrite" in capsys.readouterr().err
    assert files[0].read_bytes() == before
    assert main([*words, "--overwrite"]) == 0
    assert str(files[1]) in capsys.readouterr().out


def test_num_segments(model_path: Path, video: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "one.html"
    options = ShowOptions(
        str(model_path), str(video), output=str(output), num_segments=2, device="cpu"
    )
    assert show(options)["frames"] == [1, 3]
    assert list(output.parent.iterdir()) == [output]


def test_nothing_is_left_by_a_failure(
    model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new"
    assert main(["show", str(model_path), "no-such.mp4", "--output", str(output)]) == 2
    assert capsys.readouterr().err.startswith("gtdnet show: no-such.mp4: ")
    assert not output.exists()


@pytest.mark.parametrize(
    "name", ["mp4parser__MOV00006.3gp", "decord__video_90.mov", "torchcodec__h265_10bits.mp4"]
)
def test_real_videos(gtdnet: Recognizer, name: str, tmp_path: Path) -> None:
    if not (DATA / name).is_file():
        pytest.skip(f"no real videos in {DATA}")
    views = explain(gtdnet, DATA / name)
    assert views.frames.shape == (4, 32, 32, 3)
    save_figure(views, tmp_path / "a.png")
    Page(page(views))
