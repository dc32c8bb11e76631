"""The page in a real browser, on a desk and on a phone: a file, a camera, refusals."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gtdnet

TOKEN = "0123456789-0123456789"
SIZES = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 360, "height": 740}}


@pytest.fixture(scope="module")
def both(serve: Any, model: Path, plain: Path) -> Any:
    with serve(model, plain, max_megabytes=1, max_seconds=60, token=TOKEN) as running:
        yield running


@pytest.fixture(params=SIZES)
def page(request: pytest.FixtureRequest, browser: Any, both: Any) -> Iterator[Any]:
    """The page, opened with its token; nothing may go wrong in it but what a test awaits."""
    phone = request.param == "phone"
    context = browser.new_context(
        viewport=SIZES[request.param], has_touch=phone, is_mobile=phone, color_scheme="dark"
    )
    context.set_default_timeout(20_000)
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(error))
    page.on("console", lambda said: "Content Security" in said.text and wrong.append(said.text))
    page.goto(f"{both.url}/#token={TOKEN}")
    page.wait_for_function("() => document.getElementById('model').options.length == 2")
    assert page.url == f"{both.url}/"  # the token is gone from the address
    yield page
    assert wrong == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()


def test_a_short_video(page: Any, model: Path, short: Path) -> None:
    page.set_input_files("#file", str(short))
    page.wait_for_selector("#why:not([hidden])")
    wanted = gtdnet.load(model, "cpu").predict(short, 5)
    assert page.inner_text("#headline") == wanted[0].name
    names = page.locator("#bars .name").all_inner_texts()
    assert names == [score.name for score in wanted]
    shares = page.locator("#bars .share").all_inner_texts()
    assert shares == [f"{100 * score.probability:.1f} %" for score in wanted]
    assert page.locator("#time").is_hidden()
    # Figure 7: four frames, with what differs, and a disc for each score.
    titles = page.locator("#strip h3").all_text_contents()
    assert [title.split(" ")[0][:6] for title in titles] == [
        "Frames", "Local", "Global", "Global", "Global", "Class",
    ]  # fmt: skip
    assert page.locator("#strip img").count() == 4 + 3 + 4 + 4 + 4
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth == 32)")
    scores = page.locator("#strip svg text").all_text_contents()
    assert len(scores) == 4 and sum(map(float, scores)) == pytest.approx(1, abs=0.03)
    assert page.get_attribute("#answer div", "aria-live") == "polite"


def test_a_long_video(page: Any, model: Path, long: Path) -> None:
    page.set_input_files("#file", str(long))
    page.wait_for_selector("#time:not([hidden])")
    segments = page.locator("#timeline .best button")
    assert segments.count() >= 1
    said = segments.first.get_attribute("aria-label")
    assert re.fullmatch(r"Show \w+, 0:00\.0 to \d:\d\d\.\d, \d+\.\d %", said)
    assert page.locator("#timeline svg").count() >= 3
    assert page.locator("#segments tr").count() == segments.count()
    assert page.inner_text("#why-of").startswith("Of the moment it is surest of, ")


def test_refusals(page: Any, tmp_path: Path, short: Path) -> None:
    (tmp_path / "large.mp4").write_bytes(b"0" * 1_000_001)
    (tmp_path / "text.mp4").write_text("hello")
    refusal = page.get_by_role("alert")
    page.set_input_files("#file", str(tmp_path / "large.mp4"))
    refusal.wait_for()
    assert refusal.inner_text() == "The video has more than 1 MB; send a shorter or smaller one."
    page.set_input_files("#file", str(tmp_path / "text.mp4"))
    page.wait_for_function(
        "() => document.getElementById('refusal').textContent.includes('not read')"
    )
    assert refusal.inner_text().startswith("The video was not read: it is not a readable video")
    assert page.locator("#answer").is_hidden()
    page.set_input_files("#file", str(short))  # and the next one is answered
    page.wait_for_selector("#answer:not([hidden])")
    assert refusal.count() == 0 or refusal.is_hidden()


def test_a_model_without_gates(page: Any, short: Path) -> None:
    page.select_option("#model", "plain")
    assert "without global difference scores" in page.inner_text("#about")
    page.set_input_files("#file", str(short))
    page.wait_for_selector("#why:not([hidden])")
    assert page.locator("#strip svg").count() == 0
    assert page.inner_text("#notes") == (
        "No global difference scores: tsn_resnet18 has no GTD block."
    )
    assert "model plain" in page.inner_text("#facts")


def test_the_camera(page: Any, both: Any) -> None:
    page.click("#camera")
    page.wait_for_selector("#bars li")
    assert page.locator("#bars li").count() == 5
    assert page.inner_text("#camera") == "Stop the camera"
    page.wait_for_function("() => document.getElementById('headline').textContent != '…'")
    frames = both.metric("gtdnet_camera_frames_total")
    page.select_option("#model", "plain")  # the next camera, at once
    page.wait_for_function("() => document.getElementById('facts').textContent.includes('plain')")
    page.wait_for_selector("#bars li")
    assert both.metric("gtdnet_camera_frames_total") > frames
    page.click("#camera")
    assert page.inner_text("#camera") == "Use the camera"
    assert page.evaluate("document.getElementById('preview').srcObject === null")
    assert page.locator("#refusal").is_hidden()


def test_by_keyboard(page: Any, short: Path) -> None:
    page.focus("#model")
    focused = []
    for _ in range(3):
        page.keyboard.press("Tab")
        focused.append(page.evaluate("document.activeElement.id"))
    assert focused[:2] == ["file", "camera"]
    # The dialog itself is the browser's; that a key opens it is a click of the input.
    page.evaluate(
        """() => document.getElementById("file").addEventListener("click", event => {
            event.preventDefault();
            window.opened = true;
        })"""
    )
    page.focus("#file")
    page.keyboard.press("Space")
    page.wait_for_function("() => window.opened")
    page.set_input_files("#file", str(short))
    page.wait_for_selector("#answer:not([hidden])")
    page.focus("#strip")  # can be scrolled


def test_a_video_is_dropped(page: Any, short: Path) -> None:
    page.evaluate(
        """content => {
            const moved = new DataTransfer();
            moved.items.add(new File([new Uint8Array(content)], "dropped.mp4"));
            const how = {dataTransfer: moved, bubbles: true, cancelable: true};
            const event = new DragEvent("drop", how);
            document.getElementById("drop").dispatchEvent(event);
        }""",
        list(short.read_bytes()),
    )
    page.wait_for_selector("#answer:not([hidden])")
    assert page.inner_text("#name") == "dropped.mp4"


def test_the_token_is_asked_for(browser: Any, both: Any) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(both.url)
    page.wait_for_selector("#entry:not([hidden])")
    page.fill("#token", "wrong")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.getElementById('token').value == ''")
    page.fill("#token", TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.getElementById('model').options.length == 2")
    assert page.locator("#entry").is_hidden()
    context.close()


def test_a_server_that_is_gone(browser: Any, serve: Any, model: Path, short: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    with serve(model) as running:
        page.goto(running.url)
        page.wait_for_function("() => document.getElementById('model').options.length == 1")
    page.set_input_files("#file", str(short))
    page.wait_for_selector("#refusal:not([hidden])")
    assert page.inner_text("#refusal") == "The server cannot be reached; is it still running?"
    context.close()
