"""The page as a reader of its HTML finds it: numbers, sentences, and nothing that leaves it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gtdnet.cli import main
from gtdnet.data.formats import read_annotations
from gtdnet.data.spec import ClipSpec
from gtdnet.data.synthetic import write_dataset
from gtdnet.errors import InputError
from gtdnet.evaluate.results import Evaluation, FailedClip, write_results
from gtdnet.files import write_json
from gtdnet.models import create_model, save_model
from gtdnet.report.frames import clip_pictures
from gtdnet.report.report import ReportOptions, report

SIX = ("push", "pull", "lift", "turn left", "turn right", "drop")
# true -> predicted, of ten clips; the confidence is 0.9 for the first clip, 0.8 for the next, ...
TEN = ((0, 0), (0, 1), (0, 1), (1, 1), (2, 2), (3, 4), (3, 3), (4, 3), (4, 4), (5, 5))
NASTY = '"><script>alert(1)</script><img src=x onerror=alert(2)>&amp;'


class Page(HTMLParser):
    """What a page holds: tags with attributes, text below each id, rows of each table."""

    VOID = ("meta", "link", "img", "input", "br")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: dict[str, str] = {}
        self.rows: dict[str, list[list[str]]] = {}
        self.scripts: list[str] = []
        self._open: list[tuple[str, str | None]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append((tag, found))
        if tag in self.VOID:
            return
        label = found.get("aria-label") if found.get("role") == "group" else found.get("id")
        self._open.append((tag, label))
        if tag == "script":
            self.scripts.append("")
        if tag == "tr":
            self.rows.setdefault(self._table(), []).append([])
        elif tag in ("td", "th"):
            self.rows[self._table()][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self._open.pop()
        assert opened == tag, f"<{opened}> is closed by </{tag}>"

    def handle_data(self, data: str) -> None:
        where = [tag for tag, _ in self._open]
        if where and where[-1] == "script":
            self.scripts[-1] += data
        for _, label in self._open:
            if label:
                self.text[label] = self.text.get(label, "") + data
        if "td" in where or ("th" in where and "tr" in where):
            self.rows[self._table()][-1][-1] += data.replace("\u00a0", " ")

    def _table(self) -> str:
        return next(label for tag, label in reversed(self._open) if tag == "div" and label)

    def section(self, name: str) -> str:
        """Words below an id, with plain spaces."""
        return " ".join(self.text[name].replace("\u202f", " ").split())

    def attributes(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.scripts[0])


def evaluation(
    folder: Path,
    names: Sequence[str] = SIX,
    clips: Sequence[tuple[int, int]] = TEN,
    *,
    ids: Sequence[str] | None = None,
    split: str = "validation",
    views: str = "4x1x1",
    frames: str = "in-order",
    failures: Sequence[FailedClip] = (),
    data: str = "nowhere",
) -> Path:
    """Write an evaluation's folder, as gtdnet evaluate does."""
    spec = ClipSpec(tuple(names), num_segments=4, short_side=36, crop_size=32)
    confidence = np.linspace(0.9, 0.5, len(clips), dtype=np.float32)
    scores = np.repeat(((1 - confidence) / (len(names) - 1))[:, None], len(names), axis=1)
    labels, predicted = np.array(clips).T
    scores[np.arange(len(clips)), predicted] = confidence
    scores = scores.astype(np.float32)
    done = Evaluation(
        tuple(names),
        tuple(ids or (f"clip{i}" for i in range(len(clips)))),
        scores,
        labels.astype(np.int64),
        tuple(failures),
    )
    result = {
        **done.metrics,
        "protocol": {
            "views": views, "split": split, "frames": frames, "seed": None, "precision": "fp32",
            "device": "cpu", "spec": spec.to_dict(), "fingerprint": spec.fingerprint,
        },
        "model": {"path": "m.safetensors", "name": "gtdnet_resnet18", "sha256": "ab" * 32},
        "data": {"path": data, "format": "folder", "classes": "identical"},
        "versions": {"gtdnet": "1.2.3", "torch": "2.13.0"},
        "output": str(folder),
    }  # fmt: skip
    folder.mkdir(parents=True)
    write_results(folder, done, result)
    return folder


def page(*runs: Path, **options: Any) -> Page:
    """The report of these runs, read again."""
    output = runs[0].parent / "page.html"
    report(ReportOptions(list(map(str, runs)), str(output), overwrite=True, **options))
    return Page(output.read_text(encoding="utf-8"))


def run_directory(
    folder: Path, rows: Sequence[str] = ("1,0.1,2.5,,", "2,0.05,2.0,0.5,1.75")
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text("model: gtdnet_resnet18\nlr: 0.02\nmilestones: [3, 4]\n")
    table = ["epoch,lr,train_loss,val_top1,val_loss", *rows]
    (folder / "metrics.csv").write_text("\n".join(table) + "\n")
    return folder


# -------------------------------------------------------------------------------------- numbers


def test_accuracies_and_their_intervals(tmp_path: Path) -> None:
    found = page(evaluation(tmp_path / "a" / "eval"))
    results = found.section("run-1-results")
    assert "Top-160.0%31.3 to 83.2 %" in results  # 6 of 10, Wilson
    assert "Mean class accuracy72.2%" in results  # 1/3, 1, 1, 1/2, 1/2, 1
    assert "over 10 clips" in results
    assert "Guessing gives 16.7 %" in results
    assert "Every clip of the split was read and scored." in results


def test_table_of_classes_begins_with_the_worst(tmp_path: Path) -> None:
    found = page(evaluation(tmp_path / "a" / "eval", (*SIX, "throw")))
    rows = found.rows["Accuracy of every class"]
    assert rows[0] == ["no.", "class", "clips", "accuracy", "95 % interval", "most confused with"]
    assert rows[1:] == [
        ["0", "push", "3", "33.3 %", "6 to 79 %", "pull (2)"],
        ["3", "turn left", "2", "50.0 %", "9 to 91 %", "turn right (1)"],
        ["4", "turn right", "2", "50.0 %", "9 to 91 %", "turn left (1)"],
        ["1", "pull", "1", "100.0 %", "21 to 100 %", ""],
        ["2", "lift", "1", "100.0 %", "21 to 100 %", ""],
        ["5", "drop", "1", "100.0 %", "21 to 100 %", ""],
        ["6", "throw", "0", "no clips", "", ""],
    ]
    heads = [attrs["aria-sort"] for attrs in found.attributes("th") if "aria-sort" in attrs]
    assert heads[:6] == ["none", "none", "none", "ascending", "none", "none"]


def test_confusions(tmp_path: Path) -> None:
    found = page(evaluation(tmp_path / "a" / "eval"))
    assert found.rows["Most confused pairs of classes"][1:] == [
        ["push", "pull", "2", "66.7 %", "0", "show"],
        ["turn left", "turn right mirror image", "1", "50.0 %", "1", "show"],
        ["turn right", "turn left mirror image", "1", "50.0 %", "1", "show"],
    ]
    section = found.section("run-1-confusions")
    assert "4 clips of 10 were given the wrong class; these 3 pairs make up 100.0 %" in section
    assert "Of these, 2 were given a wrong class, and 2 (100.0 %) of those the mirror" in section
    matrix = found.data["matrices"]["run-1-matrix"]
    assert matrix["names"] == list(SIX)
    assert matrix["mirror"] == [None, None, None, 4, 3, None]
    cells = np.zeros((6, 6), int)
    for row, column, count in np.reshape(matrix["cells"], (-1, 3)):
        cells[row, column] = count
    assert [(a, b) for a, b in np.argwhere(cells)] == sorted(set(TEN))
    assert cells.sum() == 10


def test_no_mirror_images_among_the_classes(tmp_path: Path) -> None:
    found = page(evaluation(tmp_path / "a" / "eval", "abcdef"))
    assert "No two of the classes are each other’s mirror" in found.section("run-1-confusions")
    assert "taken for the mirror image" not in found.html


def test_protocol(tmp_path: Path) -> None:
    found = page(evaluation(tmp_path / "a" / "eval", views="4x3x2", frames="reversed"))
    protocol = found.section("run-1-protocol")
    for fact in (
        "Views4x3x2 (frames x crops x clips)", "Splitvalidation", "Order of framesreversed",
        "Short side, crop36 and 32 pixels", "Precision, devicefp32 on cpu",
        "Datasetnowhere, folder", "Versionsgtdnet 1.2.3, torch 2.13.0", "ab" * 32,
    ):  # fmt: skip
        assert fact in protocol


def test_training_curves(tmp_path: Path) -> None:
    run = run_directory(tmp_path / "run", ("1,0.1,2.5,,", "2,0.05,2.0,0.5,1.75", "3,0,nan,0.4,1.8"))
    evaluation(run / "eval")
    found = page(run)
    assert found.data["curves"]["run-1-curve-loss"]["series"] == [
        ["training", ["2.500", "2.000", None]],
        ["validation", [None, "1.750", "1.800"]],
    ]
    assert found.data["curves"]["run-1-curve-top1"]["series"] == [
        ["validation", [None, "50.0\u00a0%", "40.0\u00a0%"]]
    ]
    assert len(found.attributes("polyline")) == 4  # loss 2, top-1 1, lr 1
    assert "epoch 2, of best validation top-1" in found.section("run-1-training")
    assert found.rows["Metrics of every epoch"][2] == ["2", "0.05", "2", "0.5", "1.75"]
    assert "lr0.02" in found.section("run-1-protocol")
    assert "milestones[3, 4]" in found.section("run-1-protocol")


def test_one_epoch_alone_is_a_point(tmp_path: Path) -> None:
    run = run_directory(tmp_path / "run", ("1,0.1,2.5,,",))
    found = page(run)
    assert len(found.attributes("circle")) == 2
    assert not found.attributes("polyline")


# ------------------------------------------------------------------------------ left out, or not


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    found = page(evaluation(tmp_path / "a" / "eval"), clips=0)
    absent = found.section("run-1-absent")
    assert "Curves and options of the training: they are in a run directory" in absent
    assert "gtdnet evaluate --diagnose measures it" in absent
    assert "Worst clips: none were asked for." in absent
    for part in ("training", "diagnosis", "failures", "clips"):
        assert f"run-1-{part}" not in found.text


def test_run_without_evaluation(tmp_path: Path) -> None:
    run = run_directory(tmp_path / "run")
    found = page(run)
    assert "the run has no evaluation. Make one with gtdnet evaluate" in found.section(
        "run-1-absent"
    )
    assert "run-1-training" in found.text
    assert "run-1-results" not in found.text
    (run / "config.yaml").unlink()
    (run / "metrics.csv").write_text("epoch,lr\n")
    absent = page(run).section("run-1-absent")
    assert "the run has no config.yaml" in absent
    assert "no metrics.csv with a finished epoch" in absent


def test_clips_without_labels(tmp_path: Path) -> None:
    found = page(evaluation(tmp_path / "a" / "eval", clips=[(-1, 0), (-1, 3)]))
    assert "The clips have no labels" in found.section("run-1-results")
    assert "run-1-confusions" not in found.text


def test_the_evaluation_with_most_views_in_order_is_shown(tmp_path: Path) -> None:
    run = run_directory(tmp_path / "run")
    evaluation(run / "eval-a", views="8x1x1")
    evaluation(run / "eval-b", views="(8x5)x3x2")
    evaluation(run / "eval-c", views="8x3x10", frames="shuffled")
    broken = evaluation(run / "eval-d")
    (broken / "scores.npz").write_bytes(b"no archive")
    found = page(run)
    assert "What follows is of eval-b;" in found.section("run-1-results")
    rows = found.rows["All evaluations of this run"]
    assert [row[0] for row in rows[1:]] == ["eval-b", "eval-a", "eval-c"]
    assert "An evaluation is left out" in found.section("run-1-absent")


def test_failures(tmp_path: Path) -> None:
    failures = [FailedClip(f"x{i}", 0, f"v/{i}.mp4", "it is no video") for i in range(250)]
    found = page(evaluation(tmp_path / "a" / "eval", failures=failures))
    rows = found.rows["Clips that failed"]
    assert rows[1] == ["x0", "it is no video", "v/0.mp4"]
    assert len(rows) == 201
    assert "250 clips could not be read" in found.section("run-1-failures")
    assert "counting them as errors, top-1 is 2.3 %" in found.section("run-1-results")


def test_diagnosis(tmp_path: Path) -> None:
    folder = evaluation(tmp_path / "a" / "eval")
    top1 = {"in-order": 0.6, "shuffled": 0.2, "reversed": 0.3, "repeated": 0.1}
    row = {
        "name": "push", "clips": 3, "in_order": 0.75, "shuffled": 0.0, "reversed": 0.5,
        "repeated": None, "needs_order": True, "one_frame_enough": None,
        "one_frame_enough_unclear": "too few clips", "reversed_into": "pull",
        "reversed_becomes_another": True,
    }  # fmt: skip
    write_json(
        folder / "diagnosis.json",
        {"top1": top1, "chance": 1 / 6, "per_class": [row], "verdict": "1 of 1 classes need it.",
         "notes": ["A note."], "rule": "The rule."},
    )  # fmt: skip
    found = page(folder)
    section = found.section("run-1-diagnosis")
    assert section.startswith("Need for order1 of 1 classes need it.A note.in order60.0 %")
    assert section.endswith("The rule.")
    assert found.rows["Accuracy of every class by the order of frames"][1] == [
        "push", "3", "75.0 %", "0.0 %", "50.0 %", "–", "yes", "? not known: too few clips", "pull",
    ]  # fmt: skip


# ----------------------------------------------------------------------------------- calibration

BINS = [*([0, None, None],) * 8, [5, 0.85, 0.6], [15, 0.95, 1.0]]
CALIBRATED: dict[str, Any] = {
    "temperature": 1.5,
    "clips": 20,
    "data": "held-out",
    "split": "validation",
    "trained_on": 0,
    "nll": {"before": 0.5, "after": 0.25},
    "ece": {"before": 0.125, "after": 0.05},
    "reliability": {"before": BINS, "after": BINS},
    "precision": 0.9,
    "confidence": 0.8,
    "classes": [
        {"name": "push", "clips": 12, "threshold": 0.75, "named": 9, "precision": 1.0, "low": 0.92,
         "recall": 0.75},
        {"name": NASTY, "clips": 8, "threshold": None, "named": 0, "precision": None, "low": None,
         "recall": 0.0},
    ],
    "background": {"threshold": 0.8, "events": 1, "hours": 2.0, "per_hour": 0.5, "high": 2.37,
                   "expected": 20, "missed": 5, "wrong": 1},
}  # fmt: skip


def calibrated(folder: Path, **changes: Any) -> Path:
    """An evaluation of a calibrated model."""
    evaluation(folder)
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["model"]["calibration"] = {**CALIBRATED, **changes}
    write_json(folder / "metrics.json", metrics)
    return folder


def test_calibration(tmp_path: Path) -> None:
    found = page(calibrated(tmp_path / "a" / "eval"))
    section = found.section("run-1-calibration")
    assert section.startswith("CalibrationTemperature 1.5, chosen by the likelihood of 20 clips")
    assert "calibration error 12.5 % over 20 answers" in section
    assert "calibration error 5.0 % over 20 answers" in section
    assert "there was 1 event in 2 hours of video in which nothing happens: 0.5 false" in section
    assert "5 were missed (25.0 %)" in section
    assert "was trained on" not in section
    assert found.rows["Thresholds of every class"][1:] == [
        ["push", "12", "75.00 %", "100.0 %", "92.0 %", "75.0 %"],
        [NASTY, "8", "none", "–", "–", "0.0 %"],
    ]
    bars = [tag for tag in found.attributes("rect") if tag["class"] == "bar"]
    assert len(bars) == 2 * 2  # empty bins have none
    assert [bar["height"] for bar in bars[:2]] == ["126.0", "210.0"]


def test_calibration_without_background_on_clips_of_the_training(tmp_path: Path) -> None:
    folder = calibrated(tmp_path / "a" / "eval", background=None, trained_on=3)
    section = page(folder).section("run-1-calibration")
    assert "No background was measured" in section
    assert "The model was trained on some of these clips" in section


@pytest.mark.parametrize(
    "changes",
    [{"reliability": {}}, {"temperature": "hot"}, {"classes": [{}]}, {"background": {"events": 1}},
     {"precision": "0.9"}, {"clips": None}, {"classes": [{**CALIBRATED["classes"][0], "low": "1"}]},
     {"ece": None}, {"nll": {"before": 1}}, {"reliability": {"before": 1, "after": 1}}],
)  # fmt: skip
def test_a_calibration_that_is_none_is_left_out(tmp_path: Path, changes: dict[str, Any]) -> None:
    found = page(calibrated(tmp_path / "a" / "eval", **changes))
    assert "run-1-calibration" not in found.text


def test_a_run_shows_the_calibration_of_its_model(tmp_path: Path) -> None:
    model = create_model("gtdnet_resnet18", 2, 4, width=0.125)
    spec = ClipSpec(("push", "pull"), num_segments=4, short_side=36, crop_size=32)
    folder = run_directory(tmp_path / "first")
    save_model(folder / "model.safetensors", model, spec, metrics={"calibration": CALIBRATED})
    assert "Temperature 1.5" in page(folder).section("run-1-calibration")
    (folder / "model.safetensors").write_bytes(b"broken")
    assert "The calibration is left out" in page(folder).section("run-1-absent")


# ----------------------------------------------------------------------------------- worst clips


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "easy"
    write_dataset(root, format="folder", edition="easy", train=12, validation=3, size=36, workers=1)
    return root


def test_worst_clips_with_their_frames(data: Path, tmp_path: Path) -> None:
    records = read_annotations(data, "validation").records
    ids = [record.id for record in records]
    clips = [(0, 0), (0, 1), (2, 1), (2, 3)]
    folder = evaluation(tmp_path / "a" / "eval", clips=clips, ids=["right", *ids], data=str(data))
    found = page(folder)
    items = found.section("run-1-clips")
    assert [items.index(clip) for clip in ids] == sorted(items.index(clip) for clip in ids)
    assert "pull 76.7 % instead of push 4.7 %" in items
    pictures = found.attributes("img")
    assert len(pictures) == 3 * 4
    assert [picture["alt"] for picture in pictures[:4]] == [
        f"frame {picture.number}" for picture in clip_pictures(
            records[0].path, ClipSpec(SIX, num_segments=4, short_side=36, crop_size=32)
        )
    ]  # fmt: skip
    assert all(picture["src"].startswith("data:image/jpeg;base64,/9j/") for picture in pictures)

    assert len(page(folder, clips=1).attributes("img")) == 4


def test_frames_that_are_gone(data: Path, tmp_path: Path) -> None:
    record = read_annotations(data, "validation").records[0]
    ids = ["elsewhere", record.id]
    folder = evaluation(tmp_path / "a" / "eval", clips=[(0, 1), (2, 1)], ids=ids)
    found = page(folder)
    assert "the dataset is no longer at nowhere" in found.section("run-1-clips")
    assert not found.attributes("img")

    found = page(folder, data=str(data))
    assert "The dataset no longer has this clip." in found.section("run-1-clips")
    assert len(found.attributes("img")) == 4

    copy = tmp_path / "copy" / Path(record.path).relative_to(data)
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"no video")
    found = page(folder, data=str(tmp_path / "copy"))
    assert "Its frames cannot be read: it is not a readable" in found.section("run-1-clips")


# ---------------------------------------------------------------------------------- comparisons

ALL = tuple((label, label) for label, _ in TEN)


def test_comparison_knows_names_that_unicode_spells_in_two_ways(tmp_path: Path) -> None:
    composed, apart = ((name, *SIX[1:]) for name in ("\xe9t\xe9", "e\u0301te\u0301"))
    a = evaluation(tmp_path / "a" / "eval", composed, clips=ALL * 3)
    b = evaluation(tmp_path / "b" / "eval", apart, clips=ALL * 3)
    assert page(a, b).rows["Paired comparisons"][1][1] == "no clear difference"


def test_comparison_is_paired_by_clip_and_class_name(tmp_path: Path) -> None:
    a = evaluation(tmp_path / "a" / "eval", clips=ALL * 3)
    # The same clips and classes in another order, wrong on 12 of 30: b is worse on those alone.
    names = SIX[::-1]
    wrong = [(5 - t, 5 - p) for t, p in TEN * 3][::-1]
    b = evaluation(tmp_path / "b" / "eval", names, wrong, ids=[f"clip{i}" for i in range(30)][::-1])
    found = page(a, b, evaluation(tmp_path / "c" / "eval", clips=ALL * 3, views="4x3x2"))
    rows = found.rows["Paired comparisons"]
    assert rows[1:] == [
        ["a/eval and b/eval", "a/eval is better", "+40.0 (+19.6 to +55.4)", "0.0005", "12", "0"],
        ["a/eval and c/eval", "no clear differenceviews 4x1x1 and 4x3x2",
         "+0.0 (−6.1 to +6.1)", "1.00", "0", "0"],
        ["b/eval and c/eval", "c/eval is betterviews 4x1x1 and 4x3x2", "−40.0 (−55.4 to −19.6)",
         "0.0005", "0", "12"],
    ]  # fmt: skip
    assert [row[:2] for row in found.rows["The runs"][1:]] == [
        ["a/eval", "100.0 %"], ["b/eval", "60.0 %"], ["c/eval", "100.0 %"],
    ]  # fmt: skip
    assert "Benjamini" in found.section("comparison")
    links = {attrs["href"] for attrs in found.attributes("a")} - {"#main"}
    assert links == {"#comparison", "#run-1", "#run-2", "#run-3"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"split": "test"}, "a/eval was evaluated on the validation split and b/eval on the test"),
        ({"names": (*SIX[:5], "throw")}, "knows 6 classes and b/eval 6, of which 5 are the same"),
        ({"clips": TEN[:8]}, "2 were scored in a/eval alone and 0 in b/eval alone, such as clip8"),
        ({"clips": ((1, 1), *TEN[1:])}, "1 clips have different labels in the two, such as clip0"),
        ({"clips": ((-1, 1),) * 10}, "The clips of b/eval have no labels"),
    ],
)
def test_what_cannot_be_compared(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    a = evaluation(tmp_path / "a" / "eval")
    found = page(a, evaluation(tmp_path / "b" / "eval", **options))
    section = found.section("comparison")
    assert "a/eval and b/eval are not compared." in section
    assert sentence in section
    assert "Paired comparisons" not in found.rows


def test_comparison_with_a_run_that_was_not_evaluated(tmp_path: Path) -> None:
    found = page(evaluation(tmp_path / "a" / "eval"), run_directory(tmp_path / "run"))
    assert "none can be compared" in found.section("comparison")
    assert found.rows["The runs"][2][:2] == ["run", "no evaluation"]


def test_runs_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    runs = [run_directory(tmp_path / name / "run") for name in "ab"]
    found = page(*runs)
    assert [row[0] for row in found.rows["The runs"][1:]] == [str(run) for run in runs]
    ids = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
    assert len(ids) == len(set(ids))


# ------------------------------------------------------------------------------- a page by itself


def test_nothing_is_taken_for_html(tmp_path: Path) -> None:
    names = [f"{NASTY}{i}" for i in range(6)]
    run = run_directory(tmp_path / "<b>run")
    (run / "config.yaml").write_text(json.dumps({"name": NASTY, NASTY: 1}))
    folder = evaluation(
        run / "<i>eval",
        names,
        ids=[f"</code>{NASTY}{i}" for i in range(10)],
        views=NASTY,
        split=NASTY,
        failures=[FailedClip(NASTY, 0, NASTY, NASTY)],
        data=NASTY,
    )
    row = {"name": NASTY, "clips": NASTY, "needs_order": None, "needs_order_unclear": NASTY}
    write_json(folder / "diagnosis.json", {"verdict": NASTY, "per_class": [row], "rule": NASTY})
    for found in (page(run, title=NASTY), page(run, folder)):
        assert [name for name, _ in found.tags].count("script") == 2
        assert not found.attributes("img")
        assert not found.attributes("b") or all(not attrs for attrs in found.attributes("b"))
        for _, attrs in found.tags:
            assert not any(name.startswith("on") for name in attrs)
        matrix = next(iter(found.data["matrices"].values()))
        assert matrix["names"] == names
        assert NASTY in found.text["main"]


def test_page_loads_nothing_and_runs_no_other_script(tmp_path: Path, data: Path) -> None:
    record = read_annotations(data, "validation").records[0]
    run = run_directory(tmp_path / "run")
    evaluation(run / "eval", clips=[(0, 1)], ids=[record.id], data=str(data))
    found = page(run)
    for tag, attrs in found.tags:
        for name in ("src", "href", "srcset", "action", "poster", "data", "xlink:href"):
            if name in attrs:
                assert attrs[name].startswith(("data:", "#")), (tag, attrs[name])
    assert not re.search(r"https?://|url\(|@import|fetch\(|XMLHttpRequest", found.html)
    policy = next(
        attrs["content"]
        for attrs in found.attributes("meta")
        if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    digest = base64.b64encode(hashlib.sha256(found.scripts[1].encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy
    targets = {attrs["href"] for attrs in found.attributes("a")}
    assert targets <= {f"#{attrs['id']}" for _, attrs in found.tags if "id" in attrs}


def test_400_classes_stay_a_small_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 400, 4000)
    predicted = np.where(rng.random(4000) < 0.7, labels, rng.integers(0, 400, 4000))
    names = [f"doing the thing number {i} with something" for i in range(400)]
    found = page(
        evaluation(tmp_path / "a" / "eval", names, list(zip(labels, predicted, strict=True)))
    )
    assert len(found.html) < 500_000
    assert len(found.rows["Accuracy of every class"]) == 401
    assert len(found.rows["Most confused pairs of classes"]) == 26
    assert sorted(found.data["matrices"]["run-1-matrix"]["order"]) == list(range(400))
    assert "select" in {tag for tag, _ in found.tags}


# ---------------------------------------------------------------------------------- command line


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_directory(tmp_path / "run")
    evaluation(run / "eval")
    capsys.readouterr()
    assert main(["report", str(run), "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    result = json.loads(out)
    assert result["output"] == str(run / "report.html")
    assert result["runs"][0]["top1"] == {
        "value": 0.6,
        "low": pytest.approx(0.3127, abs=1e-4),
        "high": pytest.approx(0.8318, abs=1e-4),
    }
    assert result["left_out"] == [
        "Worst clips of run: Their frames are left out: the dataset is no longer at nowhere; say "
        "where it is with --data."
    ]
    assert main(["report", str(run)]) == 2
    message = capsys.readouterr().err
    assert message == (
        f"gtdnet report: {run}/report.html: exists already; give another --output, or replace it "
        f"with --overwrite\n"
    )
    assert main(["report", "--overwrite", str(run)]) == 0
    assert capsys.readouterr().out.endswith(f"report: {run}/report.html\n")


def test_several_runs_go_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    evaluation(tmp_path / "a")
    evaluation(tmp_path / "b")
    assert main(["report", "a", "b"]) == 0
    assert Path("report.html").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "report.html"]


@pytest.mark.parametrize(
    ("prepare", "options", "sentence"),
    [
        ("", {}, "there is no such folder; give a run directory or an evaluation"),
        ("empty", {}, "is neither a run directory (config.yaml, metrics.csv) nor the folder of an"),
        ("run", {"clips": -1}, "clips must not be negative, got -1"),
        ("run", {"output": "."}, ".: is a folder; give --output the name of an .html file"),
        ("metrics.csv: epoch,lr\n1,fast\n", {}, "is not what gtdnet train writes (could not"),
        ("metrics.csv: step,lr\n1,2\n", {}, "is not what gtdnet train writes (a row has no epoch)"),
        ("config.yaml: a: [", {}, "config.yaml: cannot be read (while parsing a flow node"),
        ("config.yaml: 3", {}, "config.yaml: holds no options, but int"),
        ("diagnosis.json: [", {}, "diagnosis.json: cannot be read (Expecting value"),
        ("diagnosis.json: []", {}, "diagnosis.json: holds no JSON object"),
        ("scores.npz: x", {}, "scores.npz: "),
    ],
)
def test_bad_input(tmp_path: Path, prepare: str, options: dict[str, Any], sentence: str) -> None:
    folder = tmp_path / "run"
    name, _, text = prepare.partition(": ")
    if name in ("diagnosis.json", "scores.npz"):
        evaluation(folder)
    elif name == "empty":
        folder.mkdir()
    elif name:
        run_directory(folder)
    if text:
        (folder / name).write_text(text)
    with pytest.raises(InputError, match=re.escape(sentence)) as error:
        report(ReportOptions([str(folder)], **{"output": str(tmp_path / "out.html"), **options}))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out.html").exists()
