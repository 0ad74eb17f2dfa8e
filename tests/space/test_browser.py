"""The Space in a real browser, as a visitor uses it."""

import json
import re
import time

import pytest
from PIL import Image

selenium = pytest.importorskip("selenium")
from selenium import webdriver  # noqa: E402
from selenium.common.exceptions import StaleElementReferenceException  # noqa: E402
from selenium.webdriver import ActionChains, Keys  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1280,1000 "
    "--use-fake-ui-for-media-stream --use-fake-device-for-media-stream"
).split()


class Page:
    """The page, by what a visitor reads on it."""

    def __init__(self, driver, url, downloads):
        self.driver, self.url, self.downloads = driver, url, downloads

    def open(self):
        self.driver.get(self.url)
        self.wait("#photo input[type=file]")
        return self

    def _patience(self, seconds):
        """Waits on while the page is drawn anew under the elements found."""
        return WebDriverWait(self.driver, seconds, 0.1, ignored_exceptions=[StaleElementReferenceException])

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def wait(self, selector, text="", seconds=30):
        """The first visible element that holds `text`."""
        shown = lambda _: [  # noqa: E731
            one
            for one in self.all(selector)
            if text in (one.text or "") and (one.is_displayed() or one.get_attribute("type") == "file")
        ]
        return self._patience(seconds).until(shown, f"{selector} with {text!r}")[0]

    def gone(self, selector, seconds=30):
        self._patience(seconds).until_not(
            lambda _: any(one.is_displayed() for one in self.all(selector)), f"{selector} stays"
        )

    def upload(self, *files, into="#photo"):
        self.wait(f"{into} input[type=file]").send_keys("\n".join(map(str, files)))

    def press(self, text):
        button = self.wait("button:not([tabindex='-1']), label", text)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()

    def script(self, code, *arguments):
        return self.driver.execute_script(code, *arguments)

    def style(self, selector, name):
        return self.script(f"return getComputedStyle(document.querySelector('{selector}')).{name}")

    def downloaded(self, name):
        WebDriverWait(self.driver, 20, 0.1).until(lambda _: (self.downloads / name).exists(), f"no {name}")
        return self.downloads / name


@pytest.fixture(scope="module")
def driver(chromium, tmp_path_factory):
    folder, options = tmp_path_factory.mktemp("browser"), webdriver.ChromeOptions()
    options.binary_location = chromium[0]
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    options.add_experimental_option("prefs", {"download.default_directory": str(folder)})
    driver = webdriver.Chrome(options=options, service=Service(chromium[1]))
    driver.folder = folder
    yield driver
    driver.quit()


@pytest.fixture
def page(driver, app):
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    return Page(driver, app.url, driver.folder).open()


def clipped(page):
    """Where the after-picture begins, in percent of the width."""
    style = page.script("return document.querySelectorAll('#slider img')[1].style.clipPath")
    return float(re.search(r"([\d.]+)%", style)[1])


def test_upload_enhance_compare_download(page, three_faces):
    page.upload(three_faces)
    page.wait(".note", "0.2 megapixels in, 0.8 out: takes about")
    page.press("Enhance")
    page.wait("#faces", "Faces: 3 of 3 enhanced")
    before, after = page.all("#slider img")
    for image, words in ((before, "before"), (after, "after")):
        assert page.script("return [arguments[0].naturalWidth, arguments[0].naturalHeight]", image) == [1280, 660]
        assert words in image.get_attribute("alt")
    handle = page.wait('#slider [role="slider"]')
    assert clipped(page) == 50
    ActionChains(page.driver).drag_and_drop_by_offset(handle, 150, 0).perform()
    moved = clipped(page)
    assert moved > 60
    handle.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert moved - 11 < clipped(page) < moved - 9
    captions = [caption.text for caption in page.all("#faces figcaption")]
    assert [re.sub(r"\d+%", "…%", text) for text in captions] == [
        f"Face {n}: found with …% certainty" for n in (1, 2, 3)
    ]
    page.wait("#download", "Download three_prints.jpg").click()
    with Image.open(page.downloaded("three_prints.jpg")) as image:
        assert image.size == (1280, 660) and image.format == "JPEG"
    assert all(image.get_attribute("alt") for image in page.all("#photo img, #slider img, #faces img"))


def test_pick_one_face_by_mouse_or_keyboard(page, three_faces):
    page.upload(three_faces)
    page.press("The ones I choose")
    page.wait("#chooser", "Click the faces you want")
    page.press("Enhance")
    page.wait(".toast-body", "Please click at least one face")
    page.all("#chooser button")[0].click()
    page.wait('#chooser button[data-face="0"][aria-pressed="true"]')
    page.all("#chooser button")[1].send_keys(Keys.SPACE)
    page.wait('#chooser button[data-face="1"][aria-pressed="true"]')
    page.wait('#chooser button[data-face="1"]:focus')  # given back after the faces were drawn anew
    page.all("#chooser button")[0].click()
    page.wait('#chooser button[data-face="0"][aria-pressed="false"]')
    page.press("Enhance")
    page.wait("#faces", "Faces: 1 of 3 enhanced")
    pairs = page.all("#faces .pair")
    assert [len(pair.find_elements(By.TAG_NAME, "img")) for pair in pairs] == [1, 2, 1]
    assert pairs[0].text == "Left alone: you did not choose it."


def test_a_bad_file_is_said_and_an_example_helps(page, tmp_path):
    (tmp_path / "notes.jpg").write_text("Dear diary")
    page.upload(tmp_path / "notes.jpg")
    line = "notes.jpg is not a picture that we can read. JPEG, PNG, WebP and TIFF will do."
    page.wait(".note", line)
    page.press("Enhance")
    page.wait(".toast-body", line)
    page.wait('[aria-label="Example 2"]').click()
    page.wait(".note", "0.0 megapixels in, 0.2 out")
    page.press("Enhance")
    page.wait("#faces", "Faces: 1 of 1 enhanced")


def test_progress_and_stop_and_leave(page, three_faces, tmp_path):
    Image.open(three_faces).resize((2400, 1238)).save(tmp_path / "large.jpg")  # takes a minute and more
    page.upload(tmp_path / "large.jpg")
    page.press("4×")
    page.wait(".note", "3.0 megapixels in, 47.5 out")
    page.press("Enhance")
    assert re.search(r"tile \d+ of \d+", page.wait("#slider", "Sharpening the picture, tile").text)
    page.press("Stop")
    start = time.monotonic()
    page.gone("#slider .progress-text, #slider .progress-bar", seconds=4)
    page.press("Enhance")
    page.wait("#slider", "Sharpening")  # the stopped one makes room
    assert time.monotonic() - start < 15
    page.driver.get("about:blank")
    start = time.monotonic()
    page.open()
    page.upload(three_faces)
    page.press("Enhance")
    page.wait("#faces", "Faces: 3 of 3 enhanced")
    assert time.monotonic() - start < 15


def test_several_pictures(page, three_faces, tmp_path):
    (tmp_path / "notes.jpg").write_text("Dear diary")
    page.press("Several")
    page.upload(three_faces, tmp_path / "notes.jpg", into="#files")
    page.wait(".note", "2 pictures.")
    page.press("Enhance all")
    page.wait("#download-zip", "Download the zip").click()
    assert page.downloaded("enhanced.zip").stat().st_size > 50_000
    page.wait("#records table", "notes.jpg is not a picture")


@pytest.mark.slow
def test_the_webcam(page):
    page.wait('#photo [aria-label="Capture from camera"]').click()
    page.wait("#photo button", "Click to Access Webcam").click()
    page.wait('#photo [aria-label="capture photo"]').click()
    page.wait(".note", "megapixels in")
    page.press("Enhance")
    page.wait("#faces", "We found no face", seconds=180)  # on the test pattern, of 3 megapixels


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phones_in_light_and_dark(page, three_faces, scheme):
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    page.open()
    page.upload(three_faces)
    page.press("Enhance")
    page.wait("#faces", "Faces: 3 of 3 enhanced")
    background, text = (
        sum(map(int, re.findall(r"\d+", page.style("body", name))[:3])) for name in ("backgroundColor", "color")
    )
    assert (background > 600 > 200 > text) if scheme == "light" else (background < 100 < 600 < text)
    for tab in ("One picture", "Several", "About"):
        page.press(tab)
        assert page.script("return document.documentElement.scrollWidth") == 390
    assert page.wait(".flows svg")


def test_nothing_is_asked_of_anybody_else(page):
    page.press("About")
    messages = [json.loads(entry["message"])["message"] for entry in page.driver.get_log("performance")]
    urls = {
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    }
    assert any(url.startswith(page.url) for url in urls)
    assert [url for url in urls if not url.startswith((page.url, "data:", "blob:", "chrome:"))] == []
