"""Published weights: found, downloaded from a server on this machine, checked, refused."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gtdnet.errors import InputError
from gtdnet.models import build as zoo
from gtdnet.models import create_model, list_models
from gtdnet.weights import published
from gtdnet.weights.hub import find_file
from gtdnet.weights.published import PUBLISHED, find_weights

CONTENT = b"tiny weights"
DIGITS = hashlib.sha256(CONTENT).hexdigest()[:8]
NAME = f"resnet18-{DIGITS}.pth"


class FileServer(ThreadingHTTPServer):
    """Serves ``files``; ``cut`` leaves that many bytes of each out; ``log`` has the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FileHandler)
        self.files: dict[str, bytes] = {}
        self.cut = 0
        self.log: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}).start()

    def stop(self) -> None:
        """From now on connections are refused."""
        self.shutdown()
        self.server_close()


class FileHandler(BaseHTTPRequestHandler):
    server: FileServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        self.server.log.append(self.path)
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) - self.server.cut])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A mirror with a file for resnet18 that has the right hash."""
    server = FileServer()
    server.files[f"/weights/{NAME}"] = CONTENT
    monkeypatch.setenv("GTDNET_WEIGHTS_URL", f"{server.url}/weights/")
    yield server
    server.stop()


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where downloads go, empty; the only published file is resnet18's."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.delenv("GTDNET_WEIGHTS_URL", raising=False)
    only = {"imagenet-v1": {"resnet18": f"https://published.invalid/{NAME}"}}
    monkeypatch.setattr(published, "PUBLISHED", only)
    return tmp_path / "torch" / "hub" / "checkpoints"


def files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.exists() else []


# -------------------------------------------------------------------------------------- the names


@pytest.mark.parametrize(
    "name",
    [n for n in list_models() if n.endswith("t50") or n.startswith(("gtdnet_", "tea_"))],
)
def test_every_model_has_a_published_start(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def note(source: object, network: str, width: float) -> Path:
        asked.append((source, network, width))
        raise InputError("enough")

    monkeypatch.setattr(zoo, "find_weights", note)
    with pytest.raises(InputError, match="enough"), torch.device("meta"):
        create_model(name, 5, pretrained="imagenet")
    [(source, network, width)] = asked
    assert (source, width) == ("imagenet", 1.0)
    backbone = name.partition("_")[2]
    assert network == (backbone.replace("resnet", "res2net") if "tea_" in name else backbone)
    assert network in PUBLISHED["dinov2" if network.startswith("vit") else "imagenet-v1"]


def test_file_names_carry_their_hashes() -> None:
    urls = [url for files in PUBLISHED.values() for url in files.values()]
    assert len(set(urls)) == len(urls) == 25
    for edition, files in PUBLISHED.items():
        for network, url in files.items():
            if edition == "dinov2":
                vit = network.replace("14", "_patch14")
                assert url == f"hf://timm/{vit}_dinov2.lvd142m"
            elif edition == "imagenet-22k":
                assert url == f"hf://timm/{network}.fb_in22k_ft_in1k"
            elif network.startswith(("res", "conv")):
                assert re.fullmatch(rf"https://.+/{network}(_26w_4s)?-[0-9a-f]{{8}}\.pth", url)
                assert url.startswith("https://download.pytorch.org/models/") == ("26w" not in url)
            elif network[-1] in "012":
                name = network.replace("_", "-")
                assert re.fullmatch(rf"package:{name}-[0-9a-f]{{8}}\.pth", url)
            else:
                assert url == f"hf://timm/tf_{network}.in1k"
        assert edition in ("imagenet-v1", "imagenet-v2", "imagenet-22k", "dinov2")


def test_the_docs_name_every_file() -> None:
    docs = Path(__file__).resolve().parents[2] / "docs" / "pretrained.md"
    text = docs.read_text(encoding="utf-8")
    named = re.findall(r"`((?:res|eff|conv)[\w-]+-[0-9a-f]{8}\.pth)`", text)
    named += re.findall(r"^\| .*`(hf://timm/\S+)`", text, re.MULTILINE)
    urls = [url for files in PUBLISHED.values() for url in files.values()]
    names = [url if "://timm" in url else re.split("[/:]", url)[-1] for url in urls]
    assert sorted(named) == sorted(names)


@pytest.mark.parametrize(
    ("source", "network", "width", "message"),
    [
        ("imagenet-v2", "resnet18", 1, r"no such weights are published for resnet18; use .*-v1"),
        ("imagenet", "vit_small14", 1, r"published for vit_small14; use dinov2$"),
        ("imagenet", "resnet26", 1, r"published for resnet26; give a file of your own"),
        ("imagenet", "resnet50", 0.5, r"are of networks of width 1, this one has width 0\.5"),
        ("imagenet-v3", "resnet50", 1, r"^imagenet-v3: no such weights file; did you mean image"),
        ("imagnet", "resnet50", 1, r"^imagnet: no such weights file; did you mean imagenet\?$"),
        (
            "nowhere.pth",
            "resnet50",
            1,
            r"^nowhere\.pth: no such weights file; give a path, hf://user/name or one of imagenet, "
            r"imagenet-v1, imagenet-v2, imagenet-22k, dinov2$",
        ),
        ("hf:/user/name", "resnet50", 1, r"^hf:/user/name: .* of the hub write hf://user/name$"),
        (Path("hf://user/name"), "resnet50", 1, r"^hf:/user/name: .* write hf://user/name$"),
        ("HF:user/name", "resnet50", 1, r"no such file; for a model of the hub write hf://user/n"),
        ("hf://user/name/../x", "resnet50", 1, r"^hf://user/name/\.\./x: expected hf://user/name"),
        ("hf://user/name/a//b", "resnet50", 1, r"expected hf://user/name"),
        ("hf://user/name@..", "resnet50", 1, r"expected hf://user/name"),
        ("hf://user/name@%2E%2E", "resnet50", 1, r"expected hf://user/name"),
        ("hf://user", "resnet50", 1, r"^hf://user: expected hf://user/name, with @revision"),
        ("hf://user/name@", "resnet50", 1, r"expected hf://user/name"),
        ("hf:///name", "resnet50", 1, r"expected hf://user/name"),
    ],
)
def test_refused(source: str | Path, network: str, width: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_weights(source, network, width)


def test_paths_are_taken_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    path.write_bytes(b"")
    assert find_weights(path, "resnet50", 0.5) == find_weights(str(path), "resnet50") == path
    with pytest.raises(InputError, match="is a folder, not a weights file; give a file in it"):
        find_weights(tmp_path, "resnet50")
    assert find_file("nowhere.safetensors") == Path("nowhere.safetensors")


# ------------------------------------------------------------------------------------- downloads


def test_downloaded_once(
    server: FileServer, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = find_weights("imagenet", "resnet18")
    assert capsys.readouterr().err == f"downloaded {server.url}/weights/{NAME}\n"
    assert path == cache / NAME
    assert path.read_bytes() == CONTENT
    assert find_weights("imagenet-v1", "resnet18") == path
    assert server.log == [f"/weights/{NAME}"]
    assert files_in(cache) == [NAME]


def test_what_is_in_the_cache_needs_no_network(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / NAME).write_bytes(CONTENT)
    assert find_weights("imagenet", "resnet18") == cache / NAME


def test_damaged_file_in_the_cache(server: FileServer, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / NAME).write_bytes(CONTENT[:-1])
    with pytest.raises(InputError, match=rf"{NAME}: is not the published file, or .*; delete it"):
        find_weights("imagenet", "resnet18")
    assert server.log == []
    assert (cache / NAME).read_bytes() == CONTENT[:-1]


def refused_download(cache: Path, reason: str) -> None:
    """One sentence that says what to get from where and where to put it; nothing stays."""
    with pytest.raises(InputError) as error:
        find_weights("imagenet", "resnet18")
    message = str(error.value)
    assert re.search(reason, message), message
    assert f"/{NAME}: " in message
    assert f"get {NAME} elsewhere and put it at {cache / NAME}, or give its path" in message
    assert "\n" not in message
    assert files_in(cache) == []


def test_download_that_breaks_off(server: FileServer, cache: Path) -> None:
    server.cut = 5
    refused_download(cache, r"cannot be downloaded \(it broke off after 7 of 12 bytes\)")
    server.cut = 0
    assert find_weights("imagenet", "resnet18").read_bytes() == CONTENT


def test_another_file(server: FileServer, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.files[f"/weights/{NAME}"] = b"other weights"
    digits = hashlib.sha256(b"other weights").hexdigest()[:8]
    refused_download(cache, rf"not the published file \(its SHA-256 begins with {digits}\)")
    assert capsys.readouterr().err == ""  # not that it was downloaded


def test_not_there(server: FileServer, cache: Path) -> None:
    server.files.clear()
    refused_download(cache, r"cannot be downloaded \(HTTP Error 404: Not Found\)")


def test_no_server(server: FileServer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.stop()
    refused_download(cache, r"cannot be downloaded \(.*refused\)")
    monkeypatch.setenv("GTDNET_WEIGHTS_URL", "weights")
    refused_download(cache, r"^weights/resnet18-.* cannot be downloaded \(unknown url type")


def test_without_a_mirror_the_published_place_is_asked(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(request: object, timeout: float) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(published, "urlopen", offline)
    refused_download(cache, rf"^https://published.invalid/{NAME}: .*\(no route to host\)")


def test_cache_that_cannot_be_written(server: FileServer, cache: Path) -> None:
    cache.parent.parent.write_text("a file in its place")
    with pytest.raises(InputError, match=rf"cannot be written, for {cache.parent.parent} is a"):
        find_weights("imagenet", "resnet18")


# --------------------------------------------------------------------------------- into networks


def test_weights_arrive(
    server: FileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backbone = create_model("tsn_resnet18", 5).backbone
    weights = {**backbone.state_dict(), "fc.weight": torch.zeros(1000, 512)}
    torch.save(weights, tmp_path / "file")
    content = (tmp_path / "file").read_bytes()
    name = f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    server.files[f"/weights/{name}"] = content
    monkeypatch.setattr(published, "PUBLISHED", {"imagenet-v1": {"resnet18": f"https://x/{name}"}})
    model = create_model("gtdnet_resnet18", 5, pretrained="imagenet", init="default")
    state = model.backbone.state_dict()
    assert all(torch.equal(state[key], value) for key, value in backbone.state_dict().items())


def test_weights_as_timm_writes_them(tmp_path: Path) -> None:
    """timm's keys are torchvision's; its deep stems are not a ResNet of this package."""
    backbone = create_model("tsn_resnet18", 5, width=0.125).backbone
    timm = {**backbone.state_dict(), **nn.Linear(64, 1000).state_dict(prefix="fc.")}
    save_file(timm, tmp_path / "model.safetensors", {"format": "pt"})
    model = create_model("tsm_resnet18", 5, width=0.125, pretrained=tmp_path / "model.safetensors")
    assert torch.equal(model.backbone.state_dict()["conv1.weight"], timm["conv1.weight"])
    timm["conv1.0.weight"] = timm.pop("conv1.weight")
    save_file(timm, tmp_path / "deep.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"1 key missing \(conv1.weight\).*\(conv1.0.weight\)"):
        create_model("tsm_resnet18", 5, width=0.125, pretrained=tmp_path / "deep.safetensors")
