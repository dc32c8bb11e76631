"""The page on which clips are cut, in a real browser with a fake camera, on a desk and a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gtdnet.data.decode import ClipReader, frame_times

TOKEN = "0123456789-0123456789"
SIZES = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 360, "height": 740}}
CLASSES = "thumb up,wave,a class with quite a long name,nothing"


@pytest.fixture(params=SIZES)
def page(request: pytest.FixtureRequest, browser: Any, serve: Any, tmp_path: Path) -> Iterator[Any]:
    """The page with its camera on; nothing may go wrong in it."""
    phone = request.param == "phone"
    context = browser.new_context(
        viewport=SIZES[request.param], has_touch=phone, is_mobile=phone, color_scheme="dark"
    )
    context.set_default_timeout(20_000)
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(error))
    page.on("console", lambda said: "Content Security" in said.text and wrong.append(said.text))
    with serve(collect=str(tmp_path / "mine"), classes=CLASSES, token=TOKEN) as running:
        page.goto(f"{running.url}/collect#token={TOKEN}")
        page.click("#camera")
        page.wait_for_selector("#labels:not([hidden])")
        page.wait_for_function("() => document.getElementById('preview').videoWidth > 0")
        yield page
        assert wrong == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.locator("#refusal").is_hidden()
        context.close()


def counts(page: Any) -> list[str]:
    return page.locator("#buttons .count").all_inner_texts()


def recording(page: Any, name: str) -> None:
    page.wait_for_function(
        "name => document.getElementById('now').textContent == name", arg=f"Recording: {name}"
    )


def kept(page: Any, name: str) -> float:
    """Seconds of the clip that was just kept."""
    page.wait_for_function(
        "name => document.getElementById('last').textContent.startsWith(`Kept: ${name}`)", arg=name
    )
    found = re.fullmatch(r"Kept: .*, (\d+\.\d) s", page.inner_text("#last"))
    assert found
    return float(found[1])


def test_pressed_twice_and_held(page: Any, tmp_path: Path) -> None:
    assert page.locator("#buttons .name").all_inner_texts() == CLASSES.split(",")
    assert page.locator("#buttons kbd").all_inner_texts() == ["1", "2", "3", "4"]
    wave = page.get_by_role("button", name="wave")
    wave.click()
    recording(page, "wave")
    assert wave.get_attribute("aria-pressed") == "true"
    assert page.get_by_role("button", name="nothing").is_disabled()
    page.wait_for_timeout(900)
    wave.click()
    kept(page, "wave")
    assert counts(page) == ["0", "1", "0", "0"]
    page.keyboard.down("4")
    recording(page, "nothing")
    page.wait_for_timeout(900)
    page.keyboard.up("4")
    assert kept(page, "nothing") >= 0.8
    assert counts(page) == ["0", "1", "0", "1"]
    for name in ("wave", "nothing"):
        (clip,) = (tmp_path / "mine" / name).iterdir()
        times = frame_times(str(clip))
        assert times is not None and times[-1] > 0.5 and len(times) > 4
        (_, first), *_ = ClipReader(str(clip)).frames()
        assert min(first.shape[:2]) == 480 and first.std() > 20  # the fake camera's picture


def test_taken_back(page: Any, tmp_path: Path) -> None:
    page.keyboard.press("1")  # a short press leaves it on
    recording(page, "thumb up")
    page.wait_for_timeout(600)
    page.keyboard.press("Escape")
    page.wait_for_function(
        "() => document.getElementById('last').textContent.startsWith('Dropped')"
    )
    assert page.locator("#undo").is_disabled()
    page.keyboard.press("1")
    recording(page, "thumb up")
    page.wait_for_timeout(600)
    page.keyboard.press("1")
    kept(page, "thumb up")
    assert counts(page)[0] == "1"
    page.click("#undo")
    page.wait_for_function("() => document.querySelector('#buttons .count').textContent == '0'")
    assert list((tmp_path / "mine").rglob("*.mp4")) == []
    page.click("#camera")
    assert page.locator("#labels").is_hidden()
    assert page.evaluate("document.getElementById('preview').srcObject === null")
