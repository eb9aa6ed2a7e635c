"""The page in a real browser: Debian's Chromium, with a service on this machine."""

import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.bright import scene
from tests.serve.running import PREDICTORS, encoded, running

api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
]  # fmt: skip
PHOTO = {
    "name": "photo.png",
    "mimeType": "image/png",
    "buffer": encoded(
        scene(480, 320, ((40, 40, 200, 150), "red"), ((250, 100, 400, 300), "green"), ((420, 20, 470, 70), "dim"))
    ),
}
# Objects or segments that are shown at the threshold the page begins with, at 0.3 and at 0.95.
COUNTS = {"detect": (2, 3, 0), "instances": (2, 3, 0), "several": (2, 3, 0), "panoptic": (3, 3, 1)}


@dataclass
class Visit:
    """A page, and what went wrong on it."""

    page: Any
    problems: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def upload(self, photo: dict[str, Any] = PHOTO) -> None:
        self.page.set_input_files("#file", photo)

    def done(self) -> None:
        self.page.locator("#status", has_text="Done").wait_for()

    def screenshot(self) -> Any:
        """The canvas, without its edge, around which a frame shows the keyboard's focus."""
        whole = Image.open(io.BytesIO(self.page.locator("#canvas").screenshot())).convert("RGB")
        return np.asarray(whole, np.int16)[8:-8, 8:-8]

    def threshold(self, value: float) -> None:
        self.page.locator("#threshold").fill(str(value))

    def shown(self) -> int:
        """The number of objects or segments shown."""
        text = self.page.locator("[data-total]", has_text="shown").last.inner_text()
        return int(text.split()[0])

    def saved(self, button: str) -> bytes:
        with self.page.expect_download() as download:
            self.page.click(button)
        return Path(download.value.path()).read_bytes()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def visit(browser: Any, port: int, **options: Any) -> Iterator[Visit]:
    """Opens the page. Fails if a script fails, or anything is fetched from elsewhere."""
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(20_000)
    seen = Visit(page)
    page.on("console", lambda message: seen.problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: seen.problems.append(str(error)))
    home = f"http://127.0.0.1:{port}/"
    page.on(
        "request", lambda each: None if each.url.startswith((home, "blob:", "data:")) else seen.outside.append(each.url)
    )
    page.goto(home)
    yield seen
    context.close()
    assert (seen.problems, seen.outside) == ([], [])


def violations(page: Any) -> list[str]:
    """What axe-core finds wrong for people with disabilities."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in axe.run(page).response["violations"]]


@pytest.mark.parametrize("kind", PREDICTORS)
def test_every_kind_of_model(browser: Any, kind: str) -> None:
    with running({kind: PREDICTORS[kind]()}) as client, visit(browser, client.port) as seen:
        assert violations(seen.page) == []
        seen.upload()
        seen.done()
        assert violations(seen.page) == []
        result = json.loads(seen.saved("#save-json"))
        predicted = PREDICTORS[kind]().predict(Image.open(io.BytesIO(PHOTO["buffer"])))
        assert set(result) == (set(predicted.to_dict()) if kind in ("several", "panoptic") else {kind})
        saved = Image.open(io.BytesIO(seen.saved("#save-png")))
        assert saved.size == (480, 320)
        if kind in COUNTS:
            assert seen.shown() == COUNTS[kind][0]
            for value, count in zip((0.3, 0.95), COUNTS[kind][1:], strict=True):
                seen.threshold(value)
                assert seen.shown() == count
            seen.threshold(0.5)
        before = seen.screenshot()
        switches = seen.page.locator("#heads input[type=checkbox]:checked")
        if kind == "classify":
            assert switches.count() == 0
            assert seen.page.locator("#heads .bar").count() == 3
            return
        for number in reversed(range(switches.count())):
            switches.nth(number).uncheck()
        changed = (np.abs(seen.screenshot() - before).max(2) > 20).mean()
        assert changed > 0.005, "the overlay was visible"


def test_zoom_move_and_hover(browser: Any) -> None:
    with running({"detect": PREDICTORS["detect"]()}) as client, visit(browser, client.port) as seen:
        seen.upload()
        seen.done()
        box = seen.page.locator("#canvas").bounding_box()
        scale = min(box["width"] / 480, box["height"] / 320)
        left, top = box["x"] + (box["width"] - 480 * scale) / 2, box["y"] + (box["height"] - 320 * scale) / 2
        seen.page.mouse.move(left + 100 * scale, top + 100 * scale)
        assert seen.page.inner_text("#tip") == "red, 90 %, 160 × 110 px"
        seen.page.mouse.move(left + 10 * scale, top + 300 * scale)
        assert seen.page.locator("#tip").is_hidden()
        screenshots = [seen.screenshot()]
        seen.page.locator("#canvas").focus()
        for key in ("+", "ArrowRight"):
            seen.page.keyboard.press(key)
            screenshots.append(seen.screenshot())
            assert (screenshots[-1] != screenshots[-2]).any(), key
        seen.page.mouse.move(left + 240 * scale, top + 160 * scale)
        seen.page.mouse.down()
        seen.page.mouse.move(left + 300 * scale, top + 190 * scale)
        seen.page.mouse.up()
        assert (seen.screenshot() != screenshots[-1]).any()
        seen.page.keyboard.press("0")
        seen.page.mouse.move(0, 0)
        assert (seen.screenshot() == screenshots[0]).all(), "0 fits the image again"
        seen.page.mouse.move(left + 100 * scale, top + 100 * scale)
        seen.page.mouse.wheel(0, -100)
        assert (seen.screenshot() != screenshots[0]).any()


def test_paste_and_drop(browser: Any) -> None:
    give = """([name, bytes]) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([Uint8Array.from(bytes)], "photo.png", { type: "image/png" }));
        const event = name === "paste" ? new ClipboardEvent(name, { clipboardData: transfer, bubbles: true })
            : new DragEvent(name, { dataTransfer: transfer, bubbles: true, cancelable: true });
        document.body.dispatchEvent(event);
    }"""
    with running({"detect": PREDICTORS["detect"]()}) as client:
        for way in ("paste", "drop"):
            with visit(browser, client.port) as seen:
                seen.page.evaluate(give, [way, list(PHOTO["buffer"])])
                seen.done()
                assert seen.shown() == 2


def test_errors_are_shown_and_the_page_goes_on(browser: Any) -> None:
    with running({"detect": PREDICTORS["detect"]()}) as client, visit(browser, client.port) as seen:
        seen.upload({**PHOTO, "buffer": b"no image"})
        seen.page.locator("#error:visible").wait_for()
        assert "not an image" in seen.page.inner_text("#error")
        assert violations(seen.page) == []
        seen.upload()
        seen.done()
        assert seen.page.locator("#error").is_hidden()
        seen.problems = [text for text in seen.problems if "415" not in text]  # the browser's own line for the status


def test_token(browser: Any) -> None:
    with running({"detect": PREDICTORS["detect"]()}, token="s3cret") as client, visit(browser, client.port) as seen:
        seen.page.fill("#token", "wrong")
        seen.page.click("#token-form button")
        seen.page.fill("#token", "s3cret")
        seen.page.click("#token-form button")
        seen.page.locator("#token-form").wait_for(state="hidden")
        seen.upload()
        seen.done()
        seen.problems = [text for text in seen.problems if "401" not in text]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(browser: Any, scheme: str) -> None:
    options = {"viewport": {"width": 360, "height": 740}, "color_scheme": scheme, "has_touch": True, "is_mobile": True}
    with running({"several": PREDICTORS["several"]()}) as client, visit(browser, client.port, **options) as seen:
        seen.upload()
        seen.done()
        assert violations(seen.page) == []
        width = seen.page.evaluate("document.documentElement.scrollWidth")
        assert width <= 360, "nothing is cut off"


def test_several_models(browser: Any) -> None:
    models = {name: PREDICTORS[name]() for name in ("classify", "detect")}
    with running(models) as client, visit(browser, client.port) as seen:
        seen.upload()
        seen.done()
        assert seen.page.locator("#heads .bar").count() == 3
        seen.page.select_option("#model", "detect")
        seen.page.locator("[data-total]").wait_for()
        assert seen.shown() == 2
