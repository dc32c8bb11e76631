"""Names come from outside: whatever they hold, they are words on the page and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from gtdnet.evaluate.results import FailedClip
from gtdnet.report.compare import Comparison
from gtdnet.report.frames import Picture
from gtdnet.report.page import Shown, render
from gtdnet.report.reading import Evaluated, Run

HOSTILE = (
    "\"'`><script>alert(1)</script><!--<img src=x onerror=alert(2)>]]>&amp;&#60;"
    "{{ 7 * 7 }}{% raw %}\x00\x1b\ud800"
)
ON_THE_PAGE = HOSTILE[:-3] + 3 * "\ufffd"


class Found(HTMLParser):
    """Tags with the names of their attributes; all words, in texts and in attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[str]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, [name for name, _ in attrs]))
        self.words += [value for _, value in attrs if value]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


def report_of(word: Callable[[str], str]) -> str:
    """A page with a word of its own in every place that takes one from outside."""
    names = tuple(word(f"class{label}") for label in range(6))
    labels = np.array([0, 0, 1, 2])
    scores = np.full((4, 6), 0.1, np.float32)
    scores[range(4), [0, 1, 2, 3]] = 0.5
    result = {
        "protocol": {
            **{key: word(key) for key in ("views", "split", "precision", "device", "fingerprint")},
            "frames": word("order"),
            "spec": {key: word(key) for key in ("sampling", "interpolation")},
        },
        "model": {key: word(f"model {key}") for key in ("name", "path", "sha256")},
        "data": {key: word(f"data {key}") for key in ("path", "format", "classes")},
        "versions": {word("package"): word("version")},
        "members": [
            {
                **{key: word(f"member {key}") for key in ("path", "views", "weight", "top1")},
                "model": {"name": word("member name")},
            }
        ],
    }
    row = {
        **{key: word(f"row {key}") for key in ("name", "clips", "reversed_into")},
        "needs_order_unclear": word("unclear"),
        "one_frame_enough": True,
        "reversed_becomes_another": True,
        "shuffled": word("row share"),
    }
    diagnosis = {
        "top1": {"in-order": 0.5},
        "verdict": word("verdict"),
        "notes": [word("note")],
        "rule": word("rule"),
        "per_class": [row],
    }
    evaluated = Evaluated(
        names,
        ("right", *(word(f"wrong{i}") for i in range(3))),
        scores,
        labels,
        (FailedClip(word("failed id"), 0, word("failed path"), word("failed reason")),),
        Path("runs") / word("folder"),
        result,
        diagnosis,
    )
    run = Run(
        word("run"),
        Path("runs"),
        True,
        {word("option"): word("value"), word("list"): [word("element")]},
        ({"epoch": 1.0, "val_top1": 0.5, word("column"): 1.0},),
        (evaluated, evaluated),
        (word("run note"),),
    )
    mistakes = evaluated.worst(3)
    pictures: dict[str, Any] = {
        mistakes[0].id: [Picture(0, word("uri"), 8, 8)],
        mistakes[1].id: word("picture reason"),
    }
    shown = Shown(run, mistakes, pictures, word("pictures note"))
    comparisons = [
        Comparison(
            word("first"), word("second"), significant=True, difference=1.0, remark=word("remark")
        ),
        Comparison(word("third"), word("fourth"), word("refusal")),
    ]
    return render(word("title"), [shown, shown], comparisons, word("maker"))


def everywhere(text: str) -> tuple[Found, set[str]]:
    """The page with this text after every word, and the words."""
    places: set[str] = set()

    def word(place: str) -> str:
        places.add(place)
        return place + text

    return Found(report_of(word)), places


def test_hostile_names_in_every_place() -> None:
    found, places = everywhere(HOSTILE)
    harmless, _ = everywhere("x" * len(HOSTILE))
    assert found.tags == harmless.tags
    (data,) = [word for word in found.words if word.startswith('{"curves"')]
    (matrix, _) = json.loads(data)["matrices"].values()
    assert matrix["names"] == [f"class{label}{HOSTILE[:-1]}\ufffd" for label in range(6)]
    words = "\n".join(found.words)
    for place in places - {"member top1", "row share", "list", "element"}:
        assert f"{place}{ON_THE_PAGE}" in words, place
    # No number: a dash. In a list: as JSON.
    assert not {"member top1", "row share"} & {word.removesuffix(ON_THE_PAGE) for word in words}
    assert "list" + ON_THE_PAGE in words
    assert json.dumps(f"element{HOSTILE[:-3]}")[:-1] in words


def test_page_can_be_written_as_utf8() -> None:
    report_of(lambda place: place + HOSTILE).encode("utf-8")


def test_metrics_json_of_another_shape_has_a_page() -> None:
    scores = np.eye(2, dtype=np.float32)
    result = {"protocol": {"spec": "none"}, "model": 3, "data": [], "versions": None, "members": 1}
    diagnosis = {"top1": {"in-order": None}, "per_class": [{}]}
    evaluated = Evaluated(
        ("a", "b"), ("1", "2"), scores, np.array([0, 1]), (), Path("x"), result, diagnosis
    )
    run = Run("run", Path("x"), False, {}, (), (evaluated,), ())
    assert "Need for order" in render("title", [Shown(run)], [], "maker")
