"""What programs get: answers, windows, pictures, descriptions, metrics."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import gtdnet
from gtdnet.data.calibration import Calibration
from gtdnet.models import load_model, save_model


def test_an_answer_is_that_of_the_recognizer(served: Any, model: Path, short: Path) -> None:
    recognizer = gtdnet.load(model, "cpu")
    for clips, crops in ((1, 1), (2, 3)):
        found = served.put(short, model="tiny", topk=3, clips=clips, crops=crops).json()
        wanted = recognizer.predict(short, 3, clips=clips, crops=crops)
        assert [s["name"] for s in found["scores"]] == [s.name for s in wanted]
        probabilities = [s["probability"] for s in found["scores"]]
        np.testing.assert_allclose(probabilities, [s.probability for s in wanted], atol=1e-5)
        assert (found["seconds"], found["frames"], found["views"]) == (2, 20, f"4x{crops}x{clips}")
        assert "windows" not in found and "picture" not in found


def test_windows_are_those_of_the_recognizer(served: Any, model: Path, long: Path) -> None:
    found = served.put(long, window=4, stride=2, topk=2).json()
    wanted = gtdnet.load(model, "cpu").timeline(long, 4, 2, topk=2)
    assert [(w["start"], w["end"]) for w in found["windows"]] == [(w.start, w.end) for w in wanted]
    for window, other in zip(found["windows"], wanted, strict=True):
        assert [s["label"] for s in window["scores"]] == [s.label for s in other.scores]
        got, given = window["scores"][0]["probability"], other.scores[0].probability
        assert got == pytest.approx(given, abs=1e-5)
    assert found["segments"][0]["start"] == 0 and found["segments"][-1]["end"] == 12
    assert sum(s["probability"] for s in served.put(long, window=4, topk=6).json()["scores"]) == (
        pytest.approx(1, abs=1e-5)
    )


@pytest.mark.parametrize(("name", "windows"), [("short", None), ("long", 6)])
def test_auto_makes_windows_of_long_videos(
    served: Any, name: str, windows: int | None, request: pytest.FixtureRequest
) -> None:
    found = served.put(request.getfixturevalue(name), window="auto").json()
    assert (len(found["windows"]) if windows else found.get("windows")) == windows


def test_a_picture_shows_what_the_model_sees(served: Any, short: Path) -> None:
    picture = served.put(short, picture=True).json()["picture"]
    assert [row["key"] for row in picture["rows"]] == [
        "frames", "local", "global", "enhanced", "activation",
    ]  # fmt: skip
    assert [len(row["pictures"]) for row in picture["rows"]] == [4, 3, 4, 4, 4]
    assert picture["times"] == [0.2, 0.7, 1.2, 1.7]  # of 20 frames at 10 a second
    assert picture["rows"][0]["alts"][1] == "Frames: the frame at 0.70 s"
    assert sum(picture["scores"]["values"]) == pytest.approx(1, abs=1e-3)
    assert min(picture["scores"]["values"]) > 0
    first = picture["rows"][0]["pictures"][0]
    kind, _, coded = first.partition(",")
    assert kind == "data:image/jpeg;base64"
    import base64

    frame = np.asarray(Image.open(io.BytesIO(base64.b64decode(coded))))
    assert frame.shape == (32, 32, 3)
    assert np.abs(frame[-1].mean(0) - (40, 90, 160)).max() < 20  # the colour of the first half


def test_a_model_without_gates_says_so(serve: Any, plain: Path, model: Path, short: Path) -> None:
    with serve(plain, f"named={model}") as running:
        models = running.client.get("/v1/models").json()["models"]
        assert [(m["name"], m["has_scores"]) for m in models] == [("plain", False), ("named", True)]
        found = running.put(short, picture=True).json()  # of the first
        assert found["model"] == "plain" and found["picture"]["scores"] is None
        assert found["picture"]["notes"] == [
            "No global difference scores: tsn_resnet18 has no GTD block."
        ]
        assert running.put(short, model="named").json()["model"] == "named"
        sentence = running.refused(running.put(short, model="other"), 404, "no_model")
        assert sentence == "There is no model 'other' here; choose plain, named."


def test_a_calibrated_model_says_when_it_is_not_sure(
    serve: Any, model: Path, short: Path, long: Path, tmp_path: Path
) -> None:
    """Its answers are spread thin; videos in which nothing happens reach 0.5."""
    file = load_model(model)
    sure = Calibration(temperature=1000.0)
    doubting = Calibration(temperature=1000.0, background=0.5)
    for name, calibration in (("sure", sure), ("doubting", doubting)):
        (tmp_path / name).mkdir()
        spec = file.spec.with_options(calibration=calibration)
        save_model(tmp_path / name / "model.safetensors", file.model, spec)
    with serve(tmp_path / "sure", tmp_path / "doubting") as running:
        for name, is_sure in (("sure", True), ("doubting", False)):
            found = running.put(short, model=name).json()
            assert (found["calibrated"], found["is_sure"]) == (True, is_sure)
            assert found["scores"][0]["probability"] < 0.5
            assert bool(running.put(long, model=name, window=2).json()["segments"]) == is_sure


def test_pictures_as_png(served: Any, short: Path, long: Path) -> None:
    for video, query in ((short, {"form": "png"}), (long, {"form": "timeline", "window": 2})):
        response = served.put(video, **query)
        assert response.headers["content-type"] == "image/png"
        width, height = Image.open(io.BytesIO(response.content)).size
        assert width > 1000 and height > 400
    sentence = served.refused(served.put(short, form="timeline"), 422, "no_windows")
    assert sentence == "A timeline is made of windows; give window=2."


QUERIES = [
    ({"topk": 0}, "topk is not as it should be"),
    ({"topk": "many"}, "topk is not as it should be"),
    ({"window": -1}, "window must be seconds from 0.05 to 3600, or auto, got '-1'."),
    ({"window": "nan"}, "window must be seconds from 0.05 to 3600, or auto, got 'nan'."),
    ({"stride": 1}, "stride goes with window; give both, got '1.0'."),
    ({"crops": 2}, "crops must be 1 or 3, got '2'."),
    ({"clips": 99}, "clips is not as it should be"),
    ({"form": "pdf"}, "form must be one of json, png, timeline, got 'pdf'."),
]


@pytest.mark.parametrize(("query", "said"), QUERIES)
def test_a_bad_question_is_told(served: Any, short: Path, query: dict[str, Any], said: str) -> None:
    assert served.refused(served.put(short, **query), 422, "bad_query").startswith(said)


def test_by_curl_and_by_python_alone(served: Any, short: Path) -> None:
    """The two examples of docs/serve.md."""
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    url = f"{served.url}/v1/predict?model=tiny&topk=5"
    run = subprocess.run(
        ["curl", "-sS", "--noproxy", "*", "-T", str(short), url],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(run.stdout)
    del found["took"]
    import urllib.request

    asked = urllib.request.Request(url, data=short.read_bytes(), method="PUT")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(asked, timeout=30) as answer:
        other = json.load(answer)
    del other["took"]
    assert found == other


def test_health_and_metadata_of_kserve(served: Any) -> None:
    get = served.client.get
    assert get("/v2/health/live").json() == {"live": True}
    assert get("/v2/health/ready").json() == {"ready": True}
    assert get("/v2").json() == {
        "name": "gtdnet", "version": gtdnet.__version__, "extensions": [],
    }  # fmt: skip
    assert get("/v2/models/tiny").json() == {
        "name": "tiny",
        "versions": [],
        "platform": "gtdnet_torch",
        "inputs": [{"name": "clips", "datatype": "UINT8", "shape": [-1, 4, 3, 32, 32]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 6]}],
    }
    assert get("/v2/models/tiny/ready").json() == {"name": "tiny", "ready": True}
    for path in ("/v2/models/other", "/v2/models/other/ready"):
        served.refused(get(path), 404, "no_model")
    served.refused(get("/nowhere"), 404, "no_page")
    served.refused(served.client.delete("/v1/models"), 405, "wrong_method")


def test_it_is_described(served: Any) -> None:
    described = served.client.get("/openapi.json").json()
    assert set(described["paths"]) == {
        "/v1/models", "/v1/predict", "/v2", "/v2/health/live", "/v2/health/ready",
        "/v2/models/{model}", "/v2/models/{model}/ready", "/metrics",
    }  # fmt: skip
    put = described["paths"]["/v1/predict"]["put"]
    assert {p["name"] for p in put["parameters"]} == {
        "model", "topk", "window", "stride", "clips", "crops", "picture", "form",
    }  # fmt: skip
    assert put["requestBody"]["content"] == {
        "*/*": {"schema": {"type": "string", "format": "binary"}}
    }
    assert {"413", "503", "504"} <= set(put["responses"])


def test_metrics_count(served: Any, short: Path) -> None:
    answered = 'gtdnet_requests_total{route="/v1/predict",status="200"}'
    refused = 'gtdnet_refused_total{code="undecodable"}'
    sizes = "gtdnet_received_bytes_total"
    names = (answered, refused, sizes, "gtdnet_decode_seconds_count")
    names += ('gtdnet_inference_seconds_count{model="tiny"}',)
    assert served.client.get("/metrics").text.splitlines()[0].startswith("# HELP gtdnet_requests")
    before = [served.metric(name) for name in names]
    assert served.put(short).status_code == 200
    assert served.put(b"no video").status_code == 422
    after = [served.metric(name) for name in names]
    grown = [b - a for a, b in zip(before, after, strict=True)]
    assert grown == [1, 1, short.stat().st_size + 8, 1, 1]
    for name in ("gtdnet_at_hand", "gtdnet_waiting", "gtdnet_cameras"):
        assert served.metric(f"{name} ") == 0


def test_the_page_loads_nothing_from_elsewhere(served: Any) -> None:
    for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "javascript")):
        response = served.client.get(path)
        assert response.status_code == 200 and kind in response.headers["content-type"]
        addresses = set(re.findall(r"https?://[^\s\"'`<]+|//[\w.-]+\.\w+/", response.text))
        assert addresses <= {"http://www.w3.org/2000/svg"}  # a name, not an address
    for path in ("/docs", "/redoc"):
        assert served.client.get(path).status_code == 404
