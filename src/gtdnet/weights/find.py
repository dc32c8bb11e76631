"""Names made into files: published ImageNet weights, and what lies on the Hugging Face hub.

What is downloaded stays in the caches that PyTorch and the hub's own library use, so nothing is
fetched twice, by whichever of them. Nothing here reads weights: see weights.py and model_file.py.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote
from urllib.request import Request, urlopen

import torch.hub

from gtdnet.errors import InputError
from gtdnet.files import atomic_path, sha256
from gtdnet.text import first_line, progress_counter, say

MIRROR = "GTDNET_WEIGHTS_URL"
"""Environment variable: a URL below which the published files lie, by their names."""

_PYTORCH = "https://download.pytorch.org/models"
_TIMM = "https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-res2net"

PUBLISHED: Mapping[str, Mapping[str, str]] = {
    # torchvision's IMAGENET1K_V1, and for Res2Net the files of its authors, as timm keeps them.
    "imagenet-v1": {
        "resnet18": f"{_PYTORCH}/resnet18-f37072fd.pth",
        "resnet34": f"{_PYTORCH}/resnet34-b627a593.pth",
        "resnet50": f"{_PYTORCH}/resnet50-0676ba61.pth",
        "resnet101": f"{_PYTORCH}/resnet101-63fe2227.pth",
        "resnet152": f"{_PYTORCH}/resnet152-394f9c45.pth",
        "res2net50": f"{_TIMM}/res2net50_26w_4s-06e79181.pth",
        "res2net101": f"{_TIMM}/res2net101_26w_4s-02a759a1.pth",
    },
    # torchvision's IMAGENET1K_V2: the same networks, trained for longer.
    "imagenet-v2": {
        "resnet50": f"{_PYTORCH}/resnet50-11ad3fa6.pth",
        "resnet101": f"{_PYTORCH}/resnet101-cd907fc2.pth",
        "resnet152": f"{_PYTORCH}/resnet152-f82ba261.pth",
    },
}
"""URLs by edition and network. The digits that end a file's name begin its SHA-256."""

_TIMEOUT = 30  # seconds without an answer

_HUB = "hf://"
_HUB_NAME = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?(?:/(?P<file>.+))?")


def find_weights(source: str | Path, network: str, width: float = 1.0) -> Path:
    """The file of weights that ``source`` means, downloaded if need be.

    Args:
        source: "imagenet" (the same as "imagenet-v1", from which published video models start),
            "imagenet-v2", hf://user/name[@revision][/file], or a path.
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
    return _published_file(PUBLISHED[edition][network])


def find_file(source: str | Path) -> Path:
    """The path itself, or the file that hf://user/name[@revision][/file] means, downloaded.

    Without a file it is model.safetensors; a "/" in a revision is written %2F. A revision that the
    hub's cache holds is found without a network. That the hub is asked is said on stderr.

    Raises:
        ValueError: not such a name, nothing there, no access, or neither network nor cache.
    """
    source = str(source)
    if not source.startswith(_HUB):
        # hf:user/name, and hf:/user/name as a Path makes it of hf://user/name.
        if source.lower().startswith("hf:") and not Path(source).exists():
            name = source[3:].lstrip("/") or "user/name"
            raise InputError(f"{source}: no such file; for a model of the hub write {_HUB}{name}")
        return Path(source)
    name = _HUB_NAME.fullmatch(source)
    steps = unquote(source.removeprefix(_HUB)).replace("@", "/").split("/")
    if name is None or not {"", ".", ".."}.isdisjoint(steps):
        raise InputError(
            f"{source}: expected hf://user/name, with @revision, /file or both after it"
        )
    from huggingface_hub import constants, errors, hf_hub_download

    repo, file = name["repo"], name["file"] or "model.safetensors"
    revision = unquote(name["revision"] or constants.DEFAULT_REVISION)
    if not constants.HF_HUB_OFFLINE:
        say(f"asking the hub for {source}")
    offline = None
    try:
        with hub_errors(source):
            offline = _no_answer(repo, file, revision)
            return Path(
                hf_hub_download(
                    repo,
                    file,
                    revision=revision,
                    library_name="gtdnet",
                    local_files_only=offline is not None,
                )
            )
    except errors.LocalEntryNotFoundError as error:
        reason = offline or error.__cause__ or error
        if isinstance(reason, errors.OfflineModeIsEnabled):
            why = "the hub was not asked, because HF_HUB_OFFLINE is set; unset it, or"
        else:
            why = f"the hub cannot be reached ({first_line(reason)});"
        raise InputError(
            f"{source}: is not in the cache {constants.HF_HUB_CACHE}, and {why} download "
            f"{constants.ENDPOINT}/{repo}/resolve/{revision}/{file} elsewhere and give its path"
        ) from error


def _no_answer(repo: str, file: str, revision: str) -> Exception | None:
    """Why the hub gives no answer at all, if it gives none.

    A single question: hf_hub_download would repeat its own for some 20 seconds.
    """
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HTTPError as HubHTTPError  # pyright: ignore

    try:
        get_hf_file_metadata(hf_hub_url(repo, file, revision=revision), library_name="gtdnet")
    except errors.HfHubHTTPError:  # an answer, which hf_hub_download will get as well
        return None
    except (HubHTTPError, errors.OfflineModeIsEnabled) as error:
        return error
    return None


@contextmanager
def hub_errors(name: str) -> Iterator[None]:
    """Make what the hub's library raises an InputError of one sentence about ``name``.

    LocalEntryNotFoundError (no network, not cached) passes: its remedy depends on the file.
    Meanwhile the library logs no attempts that fail: the one sentence tells the last.
    """
    from huggingface_hub import constants, errors

    # The base class of the HTTP library that the hub's own uses, whichever that is.
    from huggingface_hub.errors import HTTPError as HubHTTPError  # pyright: ignore

    log_in = "log in with hf auth login or set HF_TOKEN"
    logger = logging.getLogger("huggingface_hub.utils._http")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    except errors.LocalEntryNotFoundError:
        raise
    except errors.HFValidationError as error:
        raise InputError(
            f"{name}: is not a name that the hub allows ({first_line(error)})"
        ) from error
    except errors.GatedRepoError as error:
        raise InputError(
            f"{name}: is gated; accept its conditions on its page on the hub, then {log_in}"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            f"{name}: the hub has no such model, or it is private; check the name, or {log_in}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{name}: the hub's model has no such revision") from error
    except errors.EntryNotFoundError as error:
        raise InputError(f"{name}: the hub's model has no such file") from error
    except errors.OfflineModeIsEnabled as error:
        raise InputError(
            f"{name}: the hub was not asked, because HF_HUB_OFFLINE is set; unset it"
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise InputError(
                f"{name}: the hub refuses access (status {status}); {log_in}, with a token that "
                f"may do this"
            ) from error
        raise InputError(f"{name}: the hub answers with an error ({first_line(error)})") from error
    except (HubHTTPError, OSError) as error:
        raise InputError(
            f"{name}: the transfer failed ({first_line(error)}); check the network and the cache "
            f"{constants.HF_HUB_CACHE}"
        ) from error
    finally:
        logger.setLevel(level)


def _published_file(url: str) -> Path:
    """The file in PyTorch's cache, downloaded if it is not there; either way its hash is checked.

    Raises:
        ValueError: it cannot be had, or the cached one is another; the cache stays as it was.
    """
    name = url.rpartition("/")[2]
    wanted = Path(name).stem.rpartition("-")[2]
    path = Path(torch.hub.get_dir(), "checkpoints", name)
    if path.is_file():
        found = sha256(path)
        if not found.startswith(wanted):
            raise InputError(
                f"{path}: is not the published file, or it is damaged (its SHA-256 begins with "
                f"{found[: len(wanted)]}); delete it, and it is downloaded anew"
            )
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
    """Write what the URL holds to a file, with a bar on a terminal.

    Raises:
        OSError: no answer, an error as answer, or one that breaks off.
        HTTPException, ValueError: the answer is no HTTP; the URL is none.
    """
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
