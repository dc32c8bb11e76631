"""The classes at the end of a training run, in a terminal and elsewhere."""

from __future__ import annotations

import numpy as np

from gtdnet.evaluate.results import Evaluation
from gtdnet.evaluate.training import class_lines


def made(names: list[str], labels: list[int], predicted: list[int]) -> Evaluation:
    scores = np.eye(len(names), dtype=np.float32)[predicted]
    ids = tuple(map(str, range(len(labels))))
    return Evaluation(tuple(names), ids, scores, np.array(labels), ())


def test_few_classes_are_all_shown() -> None:
    lines = class_lines(made(["sit", "stand up", "unseen"], [0, 0, 0, 1], [0, 1, 1, 1]), None)
    assert lines == [
        "2 classes, 4 validation clips, mean class accuracy 66.7 %",
        "from the worst  clips    right  mistaken for",
        "sit                 3   33.3 %  stand up (2)",
        "stand up            1  100.0 %",
    ]


def test_of_400_classes_the_ends_fit_a_terminal() -> None:
    names = [f"a class whose name is much too long for a terminal, number {i}" for i in range(400)]
    labels = [i for i in range(400) for _ in range(4)]
    predicted = [i if j < i % 5 else (i + 1) % 400 for i in range(400) for j in range(4)]
    evaluation = made(names, labels, predicted)
    lines = class_lines(evaluation, 80)
    assert len(lines) == 1 + 7 + 7
    assert max(map(len, lines)) <= 80
    assert "…" in lines[2]
    whole = class_lines(evaluation, None)
    assert len(whole) == len(lines)
    assert names[0] in whole[2]
    assert f"{names[1]} (4)" in whole[2]
