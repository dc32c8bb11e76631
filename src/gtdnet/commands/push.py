"""gtdnet push: publish a model file on the Hugging Face hub."""

from dataclasses import dataclass

from gtdnet.commands import EXIT_DONE, Outcome
from gtdnet.commands.parser import Namespace, Parser
from gtdnet.weights.hub import check_is_there

EXAMPLE = "gtdnet push runs/first/model.safetensors user/name --license apache-2.0"


@dataclass
class PushOptions:
    """Publish a model file

    Args:
        model: model file (*.safetensors).
        repository: its name on the Hugging Face hub: user/name.
        private: only you or your organisation see it.
        license: the hub's identifier of a license, such as apache-2.0 or cc-by-nc-4.0.
        message: of the commit.
        preview: write the files to this folder and publish nothing.
    """

    model: str
    repository: str
    private: bool = False
    license: str | None = None
    message: str | None = None
    preview: str | None = None


def fill(parser: Parser) -> None:
    parser.add_class_arguments(PushOptions, None, as_group=False, as_positional=True)


def run(args: Namespace) -> Outcome:
    check_is_there(args.model)
    from gtdnet.hub import push_to_hub, write_repository

    if args.preview:
        paths = write_repository(args.model, args.preview, args.repository, license=args.license)
        files = [str(path) for path in paths]
        text = "\n".join([*files, "nothing was published (--preview)"])
        return EXIT_DONE, {"url": None, "files": files}, text
    url = push_to_hub(
        args.model,
        args.repository,
        private=args.private,
        license=args.license,
        message=args.message,
    )
    text = f"{url}\nuse it with: gtdnet predict hf://{args.repository} VIDEO"
    return EXIT_DONE, {"url": url, "files": []}, text
