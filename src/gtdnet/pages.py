"""Pages: each is one HTML file that needs no other, made from templates that escape every text.

A package that has a page keeps ``templates/page.html.j2`` and what that includes, and beside the
folder ``page.css`` and, if the page has a script, ``page.js``.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Callable, Iterable
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.ext import Extension
from markupsafe import Markup
from numpy.typing import NDArray

_NO_CHARACTERS = re.compile("[\x00-\x08\x0b\x0e-\x1f\ud800-\udfff]")  # in HTML, or in UTF-8


def render(package: str, filters: Iterable[Callable[..., Any]], **values: Any) -> str:
    """The package's page with these values in it; filters go by the names of their functions.

    Every value is escaped, but for :class:`markupsafe.Markup`. The templates have ``style`` and
    ``script`` as well, and ``script_digest``, its hash for a Content-Security-Policy.
    """
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        extensions=[_Layout],
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    environment.filters.update((function.__name__, function) for function in filters)
    folder = resources.files(package)
    style, script = folder / "page.css", folder / "page.js"
    code = script.read_text(encoding="utf-8") if script.is_file() else ""
    html = environment.get_template("page.html.j2").render(
        values,
        style=Markup(style.read_text(encoding="utf-8")),
        script=Markup(code),
        script_digest=base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
    )
    return _NO_CHARACTERS.sub("\ufffd", html)


def jpeg_uri(picture: NDArray[np.uint8]) -> str:
    """A picture [H, W, 3] as a JPEG data URI."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


class _Layout(Extension):
    """A line break beside a tag, with its indent, lays out the template alone.

    The page has no space there: between inline elements it would be seen, in tables of hundreds of
    rows it would be much. It becomes a comment, so errors still name the right line.
    """

    _beside_tags = re.compile(r"(?:(?<=>)|(?<=[%#]\}))\s*\n\s*|\s*\n\s*(?=<|\{[%#])")

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        return self._beside_tags.sub(lambda found: f"{{#{found[0]}#}}", source)
