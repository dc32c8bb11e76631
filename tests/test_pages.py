from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from jinja2 import TemplateSyntaxError, UndefinedError
from PIL import Image

from gtdnet.pages import jpeg_uri, render


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / f"page_of_{tmp_path.name}"  # packages are imported once
    (folder / "templates").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "page.css").write_text("a > b {}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def loud(text: str) -> str:
    return f"<{text.upper()}>"


def page(package: Path, template: str, **values: object) -> str:
    (package / "templates" / "page.html.j2").write_text(template)
    return render(package.name, [loud], **values)


def test_values_and_what_filters_give_are_escaped(package: Path) -> None:
    html = page(package, """<a title="{{ x }}">{{ x | loud }}</a>""", x="<\"'&")
    assert html == '<a title="&lt;&#34;&#39;&amp;">&lt;&lt;&#34;&#39;&amp;&gt;</a>'


def test_data_cannot_end_its_script(package: Path) -> None:
    html = page(package, "<script>{{ x | tojson }}</script>", x=["</script><!--é"])
    assert html == '<script>["\\u003c/script\\u003e\\u003c!--é"]</script>'


def test_what_html_has_no_characters_for(package: Path) -> None:
    html = page(package, "{{ x }}", x="a\x00b\x1bc\ud800d\te")
    assert html == "a\ufffdb\ufffdc\ufffdd\te"


def test_line_breaks_beside_tags_lay_out_the_template_alone(package: Path) -> None:
    template = """
    <p>
      {% if x %}
        one
        two <b>{{ x }}</b>
      {% endif %}
    </p>
    """
    assert " ".join(page(package, template, x="three").split()) == "<p>one two <b>three</b></p>"
    assert "<p></p>" in page(package, template, x="")


def test_errors_name_the_line(package: Path) -> None:
    with pytest.raises(TemplateSyntaxError) as error:
        page(package, "<p>\n  <b>\n  {% if %}\n  </b>\n</p>")
    assert error.value.lineno == 3


def test_a_value_that_is_not_there_is_an_error(package: Path) -> None:
    with pytest.raises(UndefinedError, match="'missing' is undefined"):
        page(package, "{{ missing }}")


def test_style_and_script_are_inlined_as_they_are(package: Path) -> None:
    template = "<style>{{ style }}</style><script>{{ script }}</script>{{ script_digest }}"
    assert page(package, template).startswith("<style>a > b {}\n</style><script></script>")
    script = 'x = a < b && "c" > `é`;\n'
    (package / "page.js").write_text(script, encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert page(package, "{{ script }}{{ script_digest | safe }}") == script + digest


def test_jpeg_uri() -> None:
    picture = np.full((8, 16, 3), (200, 100, 50), np.uint8)
    kind, _, content = jpeg_uri(picture).partition(",")
    assert kind == "data:image/jpeg;base64"
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
    assert shown.shape == picture.shape
    assert np.abs(shown.astype(int) - picture).max() <= 3
