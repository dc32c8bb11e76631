"""Publishing and loading models, against a stand-in of the hub on this machine.

The hub's own client library does all the talking; the stand-in answers as the hub does, with files
sent the way that hubs without Xet storage take them (git LFS).
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import constants
from torch import nn

import gtdnet
from gtdnet import hub
from gtdnet.cli import main
from gtdnet.data.spec import ClipSpec
from gtdnet.data.synthetic import write_dataset
from gtdnet.errors import InputError
from gtdnet.models import create_model, load_model, save_model
from gtdnet.weights.read import read_safetensors

# The client's own, where it sends files.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<:DeprecationWarning")

TOKEN = "hf_of_a_writer"
CLASSES = ("moving [something] left", "moving [something] right", "a | b", "*so* <on>")
SPEC = ClipSpec(CLASSES, num_segments=4, short_side=36, crop_size=32, sampling="dense")


# ---------------------------------------------------------------------------------- the stand-in


@dataclass
class Repo:
    """A model's repository: its branch main, and who may see it."""

    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=lambda: ["0" * 40])
    messages: list[str] = field(default_factory=list)
    private: bool = False
    gated: bool = False


class Hub(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repos: dict[str, Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self.log: list[str] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}).start()

    def stop(self) -> None:
        """From now on connections are refused."""
        self.shutdown()
        self.server_close()


class HubHandler(BaseHTTPRequestHandler):
    """The part of the hub's HTTP interface that its client uses for what is tested here."""

    server: Hub  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        self.server.log.append(f"{self.command} {self.path}")
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)", self.path):
            if repo := self.repo(match[1]):
                head = {"id": match[1], "private": repo.private, "sha": repo.commits[-1]}
                self.answer(200, head)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path):
            if not (repo := self.repo(match[1])):
                return
            if match[2] not in ("main", *repo.commits):
                self.refuse(404, "RevisionNotFound")
            elif match[3] not in repo.files:
                self.refuse(404, "EntryNotFound")
            else:
                content = repo.files[match[3]]
                etag = hashlib.sha256(content).hexdigest()
                headers = {"X-Repo-Commit": repo.commits[-1], "ETag": f'"{etag}"'}
                self.answer(200, content, headers)
        else:
            self.refuse(404, "")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.server.log.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.refuse(401, "", "Invalid credentials in Authorization header")
        elif self.path == "/api/repos/create":
            self.create(json.loads(body))
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", self.path):
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            self.answer(200, {"files": modes})
        elif match := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", self.path):
            objects = [
                {**o, "actions": {"upload": {"href": f"{self.server.url}/lfs/{o['oid']}"}}}
                for o in json.loads(body)["objects"]
            ]
            self.answer(200, {"transfer": "basic", "objects": objects})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", self.path):
            self.commit(match[1], [json.loads(line) for line in body.splitlines()])
        else:
            self.refuse(404, "")

    def do_PUT(self) -> None:
        self.server.log.append(f"{self.command} {self.path}")
        size = self.headers["Content-Length"]
        body = self.rfile.read(int(size)) if size else b"".join(self.chunks())
        self.server.lfs[self.path.removeprefix("/lfs/")] = body
        self.answer(200, {})

    def chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        address = {"url": f"{self.server.url}/{name}"}
        if wanted["organization"] != "user":
            self.refuse(403, "", "You don't have the rights to create a model under this namespace")
        elif name in self.server.repos:
            self.answer(409, {"error": "You already created this model repo", **address})
        else:
            private = wanted.get("visibility") == "private" or wanted.get("private") is True
            self.server.repos[name] = Repo(private=private)
            self.answer(200, address)

    def commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        repo = self.server.repos[name]
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                repo.messages.append(value["summary"])
            elif line["key"] == "file":
                repo.files[value["path"]] = base64.b64decode(value["content"])
            else:
                content = self.server.lfs[value["oid"]]
                assert hashlib.sha256(content).hexdigest() == value["oid"]
                repo.files[value["path"]] = content
        repo.commits.append(f"{len(repo.commits):040}")
        url = f"{self.server.url}/{name}/commit/{repo.commits[-1]}"
        answer = {"success": True, "commitUrl": url, "commitOid": repo.commits[-1]}
        self.answer(200, {**answer, "hookOutput": ""})

    def repo(self, name: str) -> Repo | None:
        """The repository, or the hub's refusal: without access it is as if it were not there."""
        writer = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        repo = self.server.repos.get(name)
        if repo is None or (repo.private and not writer):
            self.refuse(404 if writer else 401, "RepoNotFound", "Repository not found")
        elif repo.gated:
            self.refuse(403, "GatedRepo", "Access to this model is restricted")
        else:
            return repo
        return None

    def answer(
        self, status: int, content: bytes | dict[str, Any], headers: dict[str, str] | None = None
    ) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str, message: str = "") -> None:
        self.answer(status, b"", {"X-Error-Code": code, "X-Error-Message": message})

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """An empty hub, which the client library of this process asks, with an empty cache."""
    server = Hub()
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_TOKEN_PATH": str(tmp_path / "token"),
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_OFFLINE": False,
    }.items():
        monkeypatch.setattr(constants, name, value)
    yield server
    server.stop()


@pytest.fixture
def writer(stand_in: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The stand-in, for someone who is logged in and may write."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return stand_in


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = create_model("gtdnet_resnet18", len(CLASSES), 4, width=0.125)
    nn.init.normal_(model.classifier.weight, std=0.5)
    return save_model(
        tmp_path_factory.mktemp("run") / "model.safetensors",
        model,
        SPEC,
        provenance={"data": "clips", "pretrained": None, "epochs": 3, "note": "a|b"},
        metrics={"epoch": 2, "val_top1": 0.75, "val_top5": None},
    )


def frames() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (12, 40, 48, 3), generator=generator, dtype=torch.uint8)


# --------------------------------------------------------------------------------- there and back


def test_push_and_load(writer: Hub, model_path: Path, tmp_path: Path) -> None:
    url = gtdnet.push_to_hub(model_path, "user/name", license="mit", message="First")
    assert url == f"{writer.url}/user/name/commit/{1:040}"
    repo = writer.repos["user/name"]
    assert sorted(repo.files) == ["README.md", "config.json", "model.safetensors"]
    assert repo.files["model.safetensors"] == model_path.read_bytes()
    assert (repo.private, repo.messages) == (False, ["First"])
    config = json.loads(repo.files["config.json"])
    assert ClipSpec.from_dict(config["spec"]) == SPEC
    assert config["library_name"] == "gtdnet"

    wanted = gtdnet.load(model_path, "cpu").predict(frames(), topk=4)
    for loaded in (
        gtdnet.from_pretrained("user/name", device="cpu"),
        gtdnet.from_pretrained("user/name", device="cpu", revision="main"),
        gtdnet.load("hf://user/name", "cpu"),
        gtdnet.load(f"hf://user/name@{1:040}/model.safetensors", "cpu"),
    ):
        assert loaded.predict(frames(), topk=4) == wanted
        assert loaded.metrics == {"epoch": 2, "val_top1": 0.75, "val_top5": None}
    assert writer.log.count("GET /user/name/resolve/main/model.safetensors") == 1

    gtdnet.push_to_hub(model_path, "user/name")
    assert writer.repos["user/name"].commits[1:] == [f"{1:040}", f"{2:040}"]


def test_private(writer: Hub, model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gtdnet.push_to_hub(model_path, "user/secret", private=True)
    assert writer.repos["user/secret"].private
    assert gtdnet.from_pretrained("user/secret", device="cpu").spec == SPEC
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(InputError, match=r"^hf://user/other: the hub has no such model, or it is"):
        gtdnet.from_pretrained("user/other")


def test_private_never_becomes_public(writer: Hub, model_path: Path) -> None:
    writer.repos["user/open"] = Repo()
    with pytest.raises(InputError, match="user/open: exists on the hub and is public, so nothing"):
        gtdnet.push_to_hub(model_path, "user/open", private=True)
    assert writer.repos["user/open"].files == {}


def test_weights_to_start_from(writer: Hub, model_path: Path) -> None:
    gtdnet.push_to_hub(model_path, "user/name")
    model = create_model("tsm_resnet18", 9, 4, width=0.125, pretrained="hf://user/name")
    wanted = load_model(model_path).model.state_dict()["backbone.conv1.weight"]
    assert torch.equal(model.backbone.state_dict()["conv1.weight"], wanted)
    content = writer.repos["user/name"].files["model.safetensors"]
    writer.repos["timm/resnet18.a1_in1k"] = Repo({"model.safetensors": content})
    create_model("tsm_resnet18", 9, 4, width=0.125, pretrained="hf://timm/resnet18.a1_in1k")


def test_the_command_line(
    writer: Hub, model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Publish here; predict in a process that knows the hub by its environment alone."""
    assert main(["push", str(model_path), "user/name", "--license", "cc-by-4.0", "--private"]) == 0
    assert capsys.readouterr().out.startswith(f"{writer.url}/user/name/commit/")
    assert writer.repos["user/name"].private

    write_dataset(
        tmp_path / "data", format="folder", edition="easy", train=1, validation=0, size=36
    )
    clip = next((tmp_path / "data").rglob("*.mp4"))
    program = (
        "import sys, gtdnet; assert 'huggingface_hub' not in sys.modules;"
        "from gtdnet.cli import main;"
        "raise SystemExit(main(['predict', 'hf://user/name', sys.argv[1], '--json', '--device', "
        "'cpu', '--num_workers', '0']))"
    )
    environment = {
        **os.environ,
        "HF_ENDPOINT": writer.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": TOKEN,
    }
    done = subprocess.run(
        [sys.executable, "-c", program, str(clip)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["model"] == "hf://user/name"
    wanted = gtdnet.load(model_path, "cpu").predict(clip, topk=1)[0]
    assert answer["videos"][0]["scores"][0]["label"] == wanted.label


def test_evaluating_a_model_of_the_hub(
    writer: Hub, model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gtdnet.push_to_hub(model_path, "user/name")
    data = tmp_path / "data"
    write_dataset(data, format="folder", edition="easy", train=0, validation=12, size=36)
    names = sorted(folder.name for folder in (data / "val").iterdir())
    model = create_model("tsn_resnet18", len(names), 4, width=0.125)
    spec = SPEC.with_options(class_names=tuple(names))
    path = save_model(tmp_path / "easy.safetensors", model, spec)
    gtdnet.push_to_hub(path, "user/easy")
    monkeypatch.chdir(tmp_path)
    words = ["--data", str(data), "--num_workers", "0", "--device", "cpu"]
    assert main(["evaluate", "hf://user/easy", *words]) == 0
    [metrics] = (tmp_path / "runs" / "user--easy").glob("eval-validation-4x1x1/metrics.json")
    found = json.loads(metrics.read_text())["model"]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (found["path"], found["sha256"]) == ("hf://user/easy", digest)


# ------------------------------------------------------------------------------------ what fails


def test_no_such_thing(stand_in: Hub, model_path: Path) -> None:
    stand_in.repos["user/name"] = Repo({"model.safetensors": model_path.read_bytes()})
    stand_in.repos["user/gated"] = Repo(gated=True)
    for source, message in {
        "hf://user/nothing": "has no such model, or it is private; check the name, or log in with",
        "hf://user/name@v2": "hf://user/name@v2: the hub's model has no such revision",
        "hf://user/name/other.pth": "hf://user/name/other.pth: the hub's model has no such file",
        "hf://user/gated": "is gated; accept its conditions on its page on the hub, then log in",
        "hf://user/na--me": "is not a name that the hub allows",
        "hf://user": "expected hf://user/name, with @revision, /file or both after it",
    }.items():
        for read in (gtdnet.load, lambda s: create_model("tsn_resnet18", 4, pretrained=s)):
            with pytest.raises(InputError, match=re.escape(message)) as error:
                read(source)
            assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"is called user/name, got 'name'"):
        gtdnet.from_pretrained("name")


def test_offline(
    stand_in: Hub,
    model_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What the cache holds is found; of the rest is said at once what to get and from where."""
    stand_in.repos["user/name"] = Repo({"model.safetensors": model_path.read_bytes()})
    wanted = gtdnet.load("hf://user/name", "cpu").spec
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("the hub is asked again"))
    logger = logging.getLogger("huggingface_hub.utils._http")
    level = logger.level
    capsys.readouterr()

    def refused(why: str) -> None:
        with pytest.raises(InputError) as error:
            gtdnet.load("hf://user/other@v1")
        assert re.fullmatch(
            rf"hf://user/other@v1: is not in the cache {tmp_path / 'hub'}, and {why} download "
            rf"{stand_in.url}/user/other/resolve/v1/model.safetensors elsewhere and give its path",
            str(error.value),
        )

    stand_in.stop()
    refused(r"the hub cannot be reached \(.*refused.*\);")
    assert capsys.readouterr().err == "asking the hub for hf://user/other@v1\n"
    assert gtdnet.load("hf://user/name", "cpu").spec == wanted
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    capsys.readouterr()
    assert gtdnet.load("hf://user/name", "cpu").spec == wanted
    refused("the hub was not asked, because HF_HUB_OFFLINE is set; unset it, or")
    assert capsys.readouterr().err == ""
    assert logger.level == level


def test_pushing_fails(
    stand_in: Hub, model_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(message: str, path: Path = model_path, name: str = "user/name") -> None:
        with pytest.raises(InputError, match=message) as error:
            gtdnet.push_to_hub(path, name)
        assert "\n" not in str(error.value)
        assert stand_in.repos == {}

    fails(r"no token of the Hugging Face hub was found; .* hf auth login or set HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    fails(r"^user/name: the hub refuses access \(status 401\); log in .* a token that may do this")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    fails(r"^other/name: the hub refuses access \(status 403\)", name="other/name")
    fails(r"is called user/name, got 'name'", name="name")
    fails(r"no such model file", path=tmp_path / "nowhere.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    fails(r"^user/name: the hub was not asked, because HF_HUB_OFFLINE is set; unset it")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    stand_in.stop()
    fails(r"^user/name: the transfer failed \(.*refused.*\); check the network and the cache")


# --------------------------------------------------------------------------------- the model card


def card_of(model_path: Path, **changes: Any) -> str:
    header = json.loads(read_safetensors(model_path)[0]["gtdnet"])
    return hub.model_card({**header, **changes}, "user/name", num_parameters=1_234_567)


def test_preview(model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same files as published, without a network or a token."""
    folder = tmp_path / "preview"
    words = ["push", str(model_path), "user/name", "--preview", str(folder), "--license", "mit"]
    assert main([*words, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"url": None, "files": [str(folder / name) for name in hub.FILES]}
    assert sorted(path.name for path in folder.iterdir()) == sorted(hub.FILES)
    assert gtdnet.load(folder / "model.safetensors", "cpu").spec == SPEC
    _, front, card = (folder / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front) == {
        "library_name": "gtdnet",
        "pipeline_tag": "video-classification",
        "tags": ["gtdnet", "action-recognition", "gtdnet_resnet18"],
        "license": "mit",
    }
    parameters = sum(p.numel() for p in load_model(model_path).model.parameters()) / 1e6
    assert "which of 4 actions a video clip shows. Network: `gtdnet_resnet18`, Global" in card
    assert f", {parameters:.2f} M parameters." in card

    assert main(words) == 2
    assert "model.safetensors: exists already; choose another folder" in capsys.readouterr().err


def test_names_and_licenses_that_the_hub_refuses(model_path: Path, tmp_path: Path) -> None:
    for name in ("user/na..me", "user/na--me", "user/-name", "user/name.git"):
        with pytest.raises(InputError, match=f"^{name}: is not a name that the hub allows"):
            hub.write_repository(model_path, tmp_path / "card", name)
    for license in ("do as you like", "", "mit\nmit", "-"):
        with pytest.raises(InputError, match=r"such as apache-2\.0 or cc-by-nc-4\.0, got"):
            hub.write_repository(model_path, tmp_path / "card", "user/name", license=license)
    assert not (tmp_path / "card").exists()
    hub.write_repository(model_path, tmp_path / "card", "user/name", license="Apache-2.0")
    assert "\nlicense: apache-2.0\n" in (tmp_path / "card" / "README.md").read_text()


def test_card_tells_what_the_file_tells(model_path: Path) -> None:
    card = card_of(model_path)
    for line in (
        "# name",
        "    gtdnet predict hf://user/name clip.mp4",
        'recognizer = gtdnet.from_pretrained("user/name")',
        "| epoch | 2 |",
        "| val_top1 | 0.75 |",
        "| val_top5 | null |",
        "| pretrained | null |",
        "| note | a\\|b |",
        "  0  moving [something] left",
        "  3  *so* <on>",
    ):
        assert line in card.splitlines(), line
    assert "4 frames (dense/8), short side 36, crop 32. Frames are resized with antial" in card
    assert "`val_` stands for the validation during training, 4x1x1: one centre crop" in card
    assert "1.23 M parameters" in card
    assert "`aggregation=mta`" in card
    assert "license" not in card


def test_card_without_figures(model_path: Path) -> None:
    card = card_of(model_path, metrics={}, provenance={})
    assert "## Results\n\nNone are recorded.\n\n## Classes" in card


def test_card_of_a_calibrated_model(model_path: Path) -> None:
    spec = {**SPEC.to_dict(), "calibration": {"temperature": 1.5, "background": 0.5}}
    card = card_of(model_path, spec=spec, metrics={"epoch": 2, "calibration": {"clips": 9}})
    assert "| epoch | 2 |" in card
    assert "clips" not in card.partition("## Results")[2].partition("## Classes")[0]
    assert "at the temperature 1.5, and classes are named by thresholds" in card


def test_long_lists_of_classes_are_folded(model_path: Path) -> None:
    names = [f"action {i}" for i in range(21)]
    spec = SPEC.to_dict()
    assert "<details>" not in card_of(model_path, spec={**spec, "class_names": names[:20]})
    folded = card_of(model_path, spec={**spec, "class_names": names})
    assert "<details>\n<summary>21 classes in the order of the model's answers</summary>" in folded
    assert " 20  action 20\n```\n\n</details>\n" in folded


def test_evaluations_of_this_very_file_are_in_its_card(model_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(model_path.read_bytes())
    result = {
        "top1": 0.5,
        "top5": None,
        "mean_class_accuracy": 0.4375,
        "num_evaluated": 16,
        "num_failed": 1,
        "protocol": {
            "views": "4x3x2",
            "frames": "in-order",
            "split": "test",
            "precision": "fp32",
            "spec": SPEC.to_dict(),
        },
        "model": {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
        "data": {"path": "/home/someone/secret/gestures"},
    }
    other = {**result, "model": {"sha256": "0" * 64}, "data": {"path": "others"}}
    for name, content in {"eval-test-4x3x2": result, "eval-test-4x1x1": other}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps(content))
    hub.write_repository(path, tmp_path / "preview", "user/name")
    card = (tmp_path / "preview" / "README.md").read_text()
    assert (
        "| gestures | 50.00 % |  | 43.75 % | 4x3x2 (frames x crops x clips), "
        "mean of probabilities, "
        "dense/8 sampling, short side 36, crop 32, fp32: 16 clips of test, 1 failed |"
    ) in card.splitlines()
    assert "others" not in card
    assert "secret" not in card
