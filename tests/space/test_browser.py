"""The Space in a real browser, as a visitor uses it."""

import json
import re
import time
import zipfile

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
def unopened(driver, app):
    """The page before it is loaded."""
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    return Page(driver, app.url, driver.folder)


@pytest.fixture
def page(unopened):
    return unopened.open()


def clipped(page):
    """Where the after-picture begins, in percent of the width."""
    style = page.script("return document.querySelectorAll('#slider img')[1].style.clipPath")
    return float(re.search(r"([\d.]+)%", style)[1])


def test_upload_enhance_compare_download(page, three_faces):
    page.upload(three_faces)
    page.wait(".note", "0.2 megapixels in, 0.8 out. 3 faces found. Takes about")
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
    assert [text.split(": ")[0] for text in captions] == ["Face 1", "Face 2", "Face 3"]
    assert all("the same person" in text for text in captions)
    page.wait("#faces .honesty", "guessed, not recovered")
    page.wait("#download", "Download three_prints.jpg").click()
    with Image.open(page.downloaded("three_prints.jpg")) as image:
        assert image.size == (1280, 660) and image.format == "JPEG"
    assert all(image.get_attribute("alt") for image in page.all("#photo img, #slider img, #faces img"))


def test_the_first_view_is_an_example(page):
    page.wait("#slider", "An example")
    sides = page.all("#slider img")
    assert len(sides) == 2 and all(page.script("return arguments[0].naturalWidth", side) > 300 for side in sides)
    below = page.wait("#photo").rect
    assert page.wait("#examples").rect["x"] == pytest.approx(below["x"], abs=20)


def test_a_face_opens_at_full_size(page, three_faces):
    page.upload(three_faces)
    page.press("Enhance")
    page.wait("#faces", "Faces: 3 of 3 enhanced")
    sides = page.all("#faces .pair")[0].find_elements(By.CSS_SELECTOR, "span")
    assert [side.get_attribute("data-side") for side in sides] == ["Before", "After"]
    assert all(side.rect["width"] == 256 for side in sides)
    page.all("#faces .pair")[0].click()
    page.wait("dialog .sides span", "After")
    for image in page.all("dialog .sides img"):
        natural = page.script("return [arguments[0].naturalWidth, arguments[0].naturalHeight]", image)
        assert [image.rect["width"], image.rect["height"]] == natural and natural[0] == natural[1] > 256
    page.wait("dialog input").send_keys(Keys.ARROW_LEFT)
    assert page.all("dialog img")[1].get_attribute("style") == "clip-path: inset(0px 0px 0px 49%);"
    page.wait("dialog input").send_keys(Keys.ESCAPE)
    page.gone("dialog")


def test_pick_one_face_by_mouse_or_keyboard(page, three_faces):
    page.upload(three_faces)
    page.press("The ones I choose")
    page.wait("#chooser", "Click the faces you want")
    page.press("Enhance")
    page.wait(".message", "Please click at least one face")

    def face(number, chosen=None):
        ending = "" if chosen is None else f'[aria-pressed="{chosen}"]'
        return page.wait(f'#chooser button[aria-label="Face {number}"]{ending}')

    lefts = [face(number).rect["x"] for number in (1, 2, 3)]
    assert lefts == sorted(lefts)
    face(1).click()
    face(1, "true")
    face(2).send_keys(Keys.SPACE)
    face(2, "true")
    page.wait('#chooser button[aria-label="Face 2"]:focus')  # given back after the faces were drawn anew
    face(1).click()
    face(1, "false")
    page.press("Enhance")
    page.wait("#faces", "Faces: 1 of 3 enhanced")
    left_alone = "Left alone: you did not choose it."
    captions = [caption.text for caption in page.all("#faces figcaption")]
    assert captions[::2] == [f"Face 1: {left_alone}", f"Face 3: {left_alone}"]
    assert captions[1].startswith("Face 2: ") and left_alone not in captions[1]


def test_the_faces_of_a_group_are_a_grid(page, three_faces, tmp_path):
    group = Image.new("RGB", (2560, 990))
    for number in range(12):
        group.paste(Image.open(three_faces), (640 * (number % 4), 330 * (number // 4)))
    group.save(tmp_path / "group.jpg")
    page.upload(tmp_path / "group.jpg")
    page.wait(".note", "faces found")
    page.press("The ones I choose")
    page.wait("#chooser .thumbnails button")
    buttons = page.all("#chooser button")
    assert len(buttons) >= 30 and min(button.rect["width"] for button in buttons) > 48
    labels = [button.get_attribute("aria-label") for button in buttons]
    assert labels == [f"Face {number}" for number in range(1, len(buttons) + 1)]


def test_sharp_faces_are_enhanced_anyway_if_one_asks(page, astronaut, tmp_path):
    with Image.open(astronaut) as image:  # every pixel an edge: more detail than the enhancer gives
        image.crop((150, 30, 300, 180)).resize((900, 900), Image.Resampling.NEAREST).save(tmp_path / "sharp.png")
    page.upload(tmp_path / "sharp.png")
    page.press("Same size")
    page.press("Enhance")
    page.wait("#faces", "Left alone: sharper than we could make it.", seconds=60)
    page.wait("#anyway").click()
    page.wait("#faces", "Faces: 1 of 1 enhanced", seconds=60)


def test_a_bad_file_is_said_and_an_example_helps(page, tmp_path):
    (tmp_path / "notes.jpg").write_text("Dear diary")
    page.upload(tmp_path / "notes.jpg")
    line = "notes.jpg is not a picture that we can read. JPEG, PNG, WebP and TIFF will do."
    page.wait(".note", line)
    page.press("Enhance")
    page.wait(".message", line)
    page.wait('[aria-label="Example 2"]').click()
    page.wait(".note", "0.0 megapixels in, 0.2 out")
    page.press("Enhance")
    page.wait("#faces", "Faces: 1 of 1 enhanced")


def test_an_error_leaves_no_old_result_and_nothing_to_stop(page, three_faces):
    page.upload(three_faces)
    page.press("Enhance")
    page.wait("#download", "Download three_prints.jpg")
    page.press("The ones I choose")
    page.press("Enhance")
    page.wait(".message", "Please click at least one face")
    page.gone("#download, #faces")
    stop = page.wait("button", "Stop")
    WebDriverWait(page.driver, 10).until_not(lambda _: stop.is_enabled())


def test_progress_and_stop_and_leave(page, three_faces, tmp_path):
    Image.open(three_faces).resize((2400, 1238)).save(tmp_path / "large.jpg")  # takes a minute and more
    page.upload(tmp_path / "large.jpg")
    page.press("4×")
    page.wait(".note", "3.0 megapixels in, 47.5 out")
    page.press("Enhance")
    assert re.search(r"tile \d+ of \d+", page.wait("#slider", "Sharpening the picture, tile").text)
    page.press("Stop")
    start = time.monotonic()
    page.gone("#slider .progress-text, #slider .progress-bar", seconds=10)
    page.press("Enhance")
    page.wait("#slider", "Sharpening")  # the stopped one makes room
    assert time.monotonic() - start < 30
    page.driver.get("about:blank")
    start = time.monotonic()
    page.open()
    page.upload(three_faces)
    page.press("Enhance")
    page.wait("#faces", "Faces: 3 of 3 enhanced")
    assert time.monotonic() - start < 30


def test_several_pictures(page, three_faces, tmp_path):
    (tmp_path / "notes.jpg").write_text("Dear diary")
    page.press("Several")
    page.upload(three_faces, tmp_path / "notes.jpg", into="#files")
    page.wait(".note", "2 pictures.")
    page.press("Enhance all")
    page.wait("#download-zip", "Download the zip").click()
    assert page.downloaded("enhanced.zip").stat().st_size > 50_000
    page.wait("#records table", "notes.jpg is not a picture")


def test_what_is_done_of_a_batch_is_given_when_it_is_stopped(page, three_faces, tmp_path):
    Image.open(three_faces).resize((2400, 1238)).save(tmp_path / "large.jpg")  # takes half a minute and more
    page.press("Several")
    page.upload(three_faces, tmp_path / "large.jpg", into="#files")
    page.wait(".note", "2 pictures.")
    page.press("Enhance all")
    page.wait("#records", "Picture 2 of 2. Sharpening", seconds=60)
    page.press("Stop")
    page.wait("#records table", "Not done: you stopped.")
    for earlier in page.downloads.glob("enhanced*.zip"):
        earlier.unlink()
    page.wait("#download-zip", "Download the zip").click()
    file = page.downloaded("enhanced.zip")
    with zipfile.ZipFile(file) as archive:
        assert archive.namelist() == ["three_prints.jpg", "results.csv"]


@pytest.mark.slow
def test_the_webcam(page):
    page.wait('#photo [aria-label="Capture from camera"]').click()
    page.wait("#photo button", "Click to Access Webcam").click()
    page.wait('#photo [aria-label="capture photo"]').click()
    page.wait(".note", "megapixels in")
    page.press("Enhance")
    page.wait("#faces", "We found no face", seconds=180)  # on the test pattern, of 3 megapixels


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phones_in_light_and_dark(unopened, three_faces, scheme):
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    unopened.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    unopened.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    page = unopened.open()
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
