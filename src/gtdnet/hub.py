"""Models on the Hugging Face hub: published with a model card, and loaded by name.

A model's repository holds model.safetensors (the portable model file as it is), config.json (the
file's header, for people and tools) and README.md (the model card, written from that header).
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.files import atomic_path, sha256, write_text
from gtdnet.infer.recognizer import Recognizer, load
from gtdnet.models.build import parts_of
from gtdnet.models.model_file import METADATA_KEY, load_model
from gtdnet.text import one_line
from gtdnet.weights.hub import hub_errors
from gtdnet.weights.read import read_safetensors

FILES = ("model.safetensors", "config.json", "README.md")
"""What a model's repository holds."""


def from_pretrained(
    repo_id: str,
    *,
    revision: str | None = None,
    device: str = "auto",
    precision: str = "fp32",
    num_segments: int | None = None,
) -> Recognizer:
    """Load a model from the hub for recognition; ``gtdnet.load("hf://user/name")`` does the same.

    Args:
        repo_id: user/name.
        revision: branch, tag or commit; default: main.
        device, precision, num_segments: see :func:`gtdnet.load`.

    Raises:
        ValueError: no such model, no access, neither network nor cached file, or not a model file.
    """
    _check_repo_id(repo_id)
    at = f"@{quote(revision, safe='')}" if revision else ""
    return load(f"hf://{repo_id}{at}", device, precision=precision, num_segments=num_segments)


def push_to_hub(
    path: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    license: str | None = None,
    message: str | None = None,
    token: str | None = None,
) -> str:
    """Publish a model file with its model card; gives the address of the commit.

    The repository is made if it is not there. One that is there gets a new version of the three
    files in one commit; the hub keeps the versions before.

    Args:
        path: the model file.
        repo_id: user/name.
        private: only you (or your organisation) see the model; a public repository is refused.
        license: an identifier of the hub's, such as apache-2.0 or cc-by-nc-4.0.
        message: of the commit.
        token: of the hub; default: HF_TOKEN or the one that ``hf auth login`` has stored.

    Raises:
        ValueError: not a model file, a name or license that the hub does not allow, no token, no
            access, or no network.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    path, texts = _contents(path, repo_id, license)
    token = token or get_token()
    if token is None:
        raise InputError(
            "no token of the Hugging Face hub was found; make one that may write, then run "
            "hf auth login or set HF_TOKEN"
        )
    operations = [CommitOperationAdd("model.safetensors", path)]
    operations += [CommitOperationAdd(name, text.encode()) for name, text in texts.items()]
    api = HfApi(token=token, library_name="gtdnet")
    with hub_errors(repo_id):
        # None: as the account or organisation has it; public as a rule.
        api.create_repo(repo_id, private=private or None, exist_ok=True)
        if private and not api.model_info(repo_id).private:
            raise InputError(
                f"{repo_id}: exists on the hub and is public, so nothing was uploaded; make it "
                f"private in its settings, or choose another name"
            )
        commit = api.create_commit(
            repo_id, operations, commit_message=message or "Upload a model with gtdnet"
        )
    return str(commit.commit_url)


def write_repository(
    path: str | Path, folder: str | Path, repo_id: str, *, license: str | None = None
) -> list[Path]:
    """Write the files that :func:`push_to_hub` would publish to a folder; needs no network.

    Raises:
        ValueError: not a model file, a name or license that the hub does not allow, or the folder
            holds files of these names.
    """
    folder = Path(folder)
    path, texts = _contents(path, repo_id, license)
    for name in FILES:
        if (folder / name).exists():
            raise InputError(f"{folder / name}: exists already; choose another folder")
    with atomic_path(folder / FILES[0]) as temporary:
        shutil.copyfile(path, temporary)
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in FILES]


def model_card(
    header: Mapping[str, Any],
    repo_id: str,
    *,
    num_parameters: int,
    evaluations: Sequence[Mapping[str, Any]] = (),
    license: str | None = None,
) -> str:
    """The README.md of a model's repository: what a model file tells about its model.

    ``header`` is the model file's, ``evaluations`` what metrics.json holds of evaluations of this
    very file, ``license`` an identifier of the hub's.
    """
    from jinja2 import Environment, StrictUndefined

    front = {
        "library_name": "gtdnet",
        "pipeline_tag": "video-classification",
        "tags": ["gtdnet", "action-recognition", header["model"]["name"]],
        **({"license": license} if license else {}),
    }
    from gtdnet.evaluate.measures import figures_of  # its package imports what is slow

    titles = figures_of(evaluations[0]) if evaluations else {}
    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined
    )
    environment.filters["cell"] = _cell
    template = resources.files("gtdnet").joinpath("hub.md.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        header,
        front=yaml.safe_dump(front, sort_keys=False, allow_unicode=True),
        name=repo_id.partition("/")[2],
        repo_id=repo_id,
        spec=ClipSpec.from_dict(header["spec"]),
        title=parts_of(header["model"]["name"]).method.title,
        num_parameters=num_parameters,
        titles=list(titles.values()),
        measured=[_measured(result, titles) for result in evaluations],
        validated=any(key.startswith("val_") for key in header["metrics"]),
    )


def _contents(path: str | Path, repo_id: str, license: str | None) -> tuple[Path, dict[str, str]]:
    """The model file's path, and the texts that go with it by file name."""
    _check_repo_id(repo_id)
    if license is not None:
        license = license.lower()  # as all of the hub's are
        if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", license):
            raise InputError(
                f"a license is named by the hub's identifier, such as apache-2.0 or cc-by-nc-4.0, "
                f"got {license!r}"
            )
    model_file = load_model(path)  # what cannot be loaded is not published
    path = Path(model_file.path)
    header = json.loads(read_safetensors(path)[0][METADATA_KEY])
    card = model_card(
        {"provenance": {}, "metrics": {}, **header},
        repo_id,
        num_parameters=sum(p.numel() for p in model_file.model.parameters()),
        evaluations=_evaluations(path),
        license=license,
    )
    config = json.dumps({"library_name": "gtdnet", **header}, indent=2, ensure_ascii=False)
    return path, {"config.json": config + "\n", "README.md": card}


def _evaluations(path: Path) -> list[dict[str, Any]]:
    """Results of gtdnet evaluate that lie beside the model file and were measured with it."""
    files = sorted(path.parent.glob("eval-*/metrics.json"))
    digest = sha256(path) if files else ""
    results = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return [result for result in results if result.get("model", {}).get("sha256") == digest]


def _measured(result: Mapping[str, Any], figures: Iterable[str]) -> tuple[str, ...]:
    """One evaluation's row of the card's table."""
    from gtdnet.evaluate.protocol import protocol_line  # its package imports what is slow

    shares = (result[name] for name in figures)
    percents = ("" if share is None else f"{100 * share:.2f} %" for share in shares)
    return Path(result["data"]["path"]).name, *percents, protocol_line(result)


def _cell(value: object) -> str:
    """A cell of a Markdown table."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return one_line(text).replace("|", "\\|")


def _check_repo_id(repo_id: str) -> None:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo_id):
        raise InputError(f"a model on the hub is called user/name, got {repo_id!r}")
    from huggingface_hub.utils import validate_repo_id

    with hub_errors(repo_id):
        validate_repo_id(repo_id)
