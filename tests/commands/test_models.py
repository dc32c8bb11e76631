from __future__ import annotations

import json
import re

import pytest

from gtdnet.cli import main


def test_models_and_what_they_cost(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["models", "ts*_resnet18", "--complexity", "--views", "4x1x1,4x3x2,8x3x10"]
    assert main([*words, "--crop-size", "64"]) == 0
    out = capsys.readouterr().out
    head, *lines = (re.split(r"\s{2,}", line) for line in out.splitlines()[:3])
    assert head[:4] == ["model", "frames", "M parameters", "GMACs a view"]
    assert head[4:] == ["GMACs 3x2", "GMACs 3x10", "MiB inference", "MiB training"]
    assert lines == [
        ["tsm_resnet18", "4", "11.27", "0.59", "3.6", "2", "8"],
        ["tsm_resnet18", "8", "11.27", "1.19", "35.6", "4", "16"],
    ]
    assert main([*words, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["models"]
    assert [row["name"] for row in rows] == ["tsm_resnet18", "tsn_resnet18"]
    four, eight = rows[0]["complexity"]
    assert set(four["macs_of_protocol"]) == {"4x1x1", "4x3x2"}
    assert eight["macs_of_protocol"]["8x3x10"] == 30 * eight["macs"]
