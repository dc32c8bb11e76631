"""Files of the Hugging Face hub by name: hf://user/name[@revision][/file].

What is downloaded stays in the cache of the hub's own library, so nothing is fetched twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from gtdnet.errors import InputError
from gtdnet.text import first_line, only_errors, say

_HUB = "hf://"
_HUB_NAME = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?(?:/(?P<file>.+))?")
_LOG_IN = "log in with hf auth login or set HF_TOKEN"


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
    silent = None
    try:
        with hub_errors(source):
            silent = _why_silent(repo, file, revision)
            path = hf_hub_download(
                repo,
                file,
                revision=revision,
                library_name="gtdnet",
                local_files_only=silent is not None,
            )
    except errors.LocalEntryNotFoundError as error:
        reason = silent or error.__cause__ or error
        if isinstance(reason, errors.OfflineModeIsEnabled):
            why = "the hub was not asked, because HF_HUB_OFFLINE is set; unset it, or"
        else:
            why = f"the hub cannot be reached ({first_line(reason)});"
        raise InputError(
            f"{source}: is not in the cache {constants.HF_HUB_CACHE}, and {why} download "
            f"{constants.ENDPOINT}/{repo}/resolve/{revision}/{file} elsewhere and give its path"
        ) from error
    return Path(path)


def check_is_there(source: str | Path) -> None:
    """Raise InputError for the path of a model file where there is nothing.

    It is no more than that, and so comes before all that reads one is imported; what lies on the
    hub, and exported files, are left to what opens them.
    """
    if str(source).startswith(_HUB) or Path(source).suffix.lower() not in ("", ".safetensors"):
        return
    if not find_file(source).exists():
        raise no_model_file(source)


def no_model_file(path: str | Path) -> InputError:
    """The complaint."""
    return InputError(f"{path}: no such model file; train one with gtdnet train, or gtdnet demo")


def _why_silent(repo: str, file: str, revision: str) -> Exception | None:
    """Why the hub gives no answer at all, if it gives none.

    A single question: hf_hub_download would repeat its own for some 20 seconds.
    """
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(repo, file, revision=revision), library_name="gtdnet")
    except errors.HfHubHTTPError:  # an answer, which hf_hub_download will get as well
        return None
    except (errors.HTTPError, errors.OfflineModeIsEnabled) as error:  # pyright: ignore
        return error
    return None


@contextmanager
def hub_errors(name: str) -> Iterator[None]:
    """Make what the hub's library raises an InputError of one sentence about ``name``.

    LocalEntryNotFoundError (no network, not cached) passes: its remedy depends on the file.
    Meanwhile the library logs no attempts that fail: the one sentence tells the last.
    """
    from huggingface_hub import errors

    # The last is of the HTTP library that the hub's own uses, whichever that is.
    kinds = errors.HFValidationError, errors.EntryNotFoundError, OSError, errors.HTTPError  # pyright: ignore
    try:
        with only_errors("huggingface_hub.utils._http"):
            yield
    except errors.LocalEntryNotFoundError:
        raise
    except kinds as error:
        raise InputError(f"{name}: {_meaning(error)}") from error


def _meaning(error: Exception) -> str:
    """What an error of the hub's library means, and the remedy."""
    from huggingface_hub import constants, errors

    match error:
        case errors.HFValidationError():
            return f"is not a name that the hub allows ({first_line(error)})"
        case errors.GatedRepoError():
            return f"is gated; accept its conditions on its page on the hub, then {_LOG_IN}"
        case errors.RepositoryNotFoundError():
            return f"the hub has no such model, or it is private; check the name, or {_LOG_IN}"
        case errors.RevisionNotFoundError():
            return "the hub's model has no such revision"
        case errors.EntryNotFoundError():
            return "the hub's model has no such file"
        case errors.OfflineModeIsEnabled():
            return "the hub was not asked, because HF_HUB_OFFLINE is set; unset it"
        case errors.HfHubHTTPError(response=response) if response.status_code in (401, 403):
            status = response.status_code
            return (
                f"the hub refuses access (status {status}); {_LOG_IN}, with a token that may do "
                f"this"
            )
        case errors.HfHubHTTPError():
            return f"the hub answers with an error ({first_line(error)})"
    return (
        f"the transfer failed ({first_line(error)}); check the network and the cache "
        f"{constants.HF_HUB_CACHE}"
    )
