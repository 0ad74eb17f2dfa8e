"""The Space in a process of its own, asked by programs."""

import io
import re
import time
import urllib.error
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import ExifTags, Image
from tiny import tiny_codeformer, tiny_pipeline

README = Path(__file__).parents[2] / "space" / "README.md"


@pytest.fixture(scope="module")
def client(app, tmp_path_factory):
    return connect(app, tmp_path_factory.mktemp("downloads"))


def connect(app, folder):
    return Client(app.url, verbose=False, download_files=str(folder))


def ask(client, file, **options):
    return client.predict(photo=handle_file(file), api_name="/enhance", **options)


def picture(path, size=(90, 60), colour="navy", **options):
    Image.new("RGB", size, colour).save(path, **options)
    return path


def test_a_picture_comes_back_in_its_format_under_its_name(client, three_faces, tmp_path):
    result, faces = ask(client, three_faces)
    with Image.open(result) as image:
        assert Path(result).name == "three_prints.jpg" and image.format == "JPEG" and image.size == (1280, 660)
    assert len(faces) == 3 and all(face["left_alone"] is None and 0.5 < face["score"] <= 1 for face in faces)
    assert all("the same person" in face["likeness"] for face in faces)
    x1, y1, x2, y2 = faces[0]["box"]
    assert 80 < x1 < 120 and 60 < y1 < 90 and 170 < x2 < 210 and 170 < y2 < 210
    Image.open(three_faces).convert("L").save(tmp_path / "grandma (1901).png")
    result, _ = ask(client, tmp_path / "grandma (1901).png", enlarge=1)
    with Image.open(result) as image:
        assert Path(result).name == "grandma (1901).png" and (image.format, image.mode) == ("PNG", "L")


def test_an_animation_comes_back_as_one(client, three_faces, tmp_path):
    photo = Image.open(three_faces).convert("RGB").resize((160, 82))
    photo.save(tmp_path / "moving.gif", save_all=True, append_images=[photo.rotate(2), photo.rotate(4)], duration=80)
    result, _ = ask(client, tmp_path / "moving.gif")
    with Image.open(result) as image:
        assert (image.format, image.n_frames, image.size, image.info["duration"]) == ("GIF", 3, (320, 164), 80)
    with pytest.raises(AppError, match="Please go back to all faces"):
        ask(client, tmp_path / "moving.gif", faces=[0])


def test_only_the_faces_that_one_asks_for(client, three_faces):
    _, faces = ask(client, three_faces, enlarge=1, faces=[1], background=False)
    assert [face["left_alone"] for face in faces] == [
        "Left alone: you did not choose it.", None, "Left alone: you did not choose it."
    ]  # fmt: skip


def test_no_face_is_no_error(client, tmp_path):
    result, faces = ask(client, picture(tmp_path / "sea.webp"), enlarge=4)
    assert Image.open(result).size == (360, 240) and Path(result).name == "sea.webp" and faces == []


def broken(name, path, astronaut):
    if name == "notes.jpg":
        path.write_text("Dear diary")
    elif name == "half.png":
        path.write_bytes(astronaut.read_bytes()[:300_000])
    elif name == "empty.jpg":
        path.touch()
    elif name == "bomb.png":
        Image.new("1", (20_000, 20_000)).save(path)  # 49 KB
    elif name == "large.png":
        Image.new("L", (6000, 5000)).save(path)
    elif name == "heavy.bmp":
        path.write_bytes(bytes(21 * 2**20))
    else:
        picture(path, (3000, 3000) if name == "wide.png" else (90, 60))
    return path


@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        ("notes.jpg", {}, "notes.jpg is not a picture that we can read. JPEG, PNG, WebP and TIFF will do."),
        ("half.png", {}, "half.png is damaged. Do you have another copy?"),
        ("empty.jpg", {}, "empty.jpg is not a picture that we can read. JPEG, PNG, WebP and TIFF will do."),
        ("bomb.png", {}, "bomb.png has far too many pixels; a picture may have 24 megapixels here."),
        ("large.png", {}, "large.png has 30 megapixels; a picture may have 24 here. Make it smaller."),
        ("heavy.bmp", {}, "heavy.bmp has 21 MB; a picture may have 20 MB here."),
        ("wide.png", {"enlarge": 4}, "Enlarged 4 times, wide.png would have 144 megapixels; 100 is the most."),
        ("sea.png", {"aligned": True}, "A face that is already cropped must be square; sea.png has 90 × 60 pixels."),
        ("sea.png", {"faces": [0]}, "That face is not in the picture. Please choose again."),
        ("sea.png", {"faces": ["x"]}, "Faces are named by their numbers"),
        ("sea.png", {"enlarge": 3}, "Pictures can be enlarged 1, 2 or 4 times, not 3 times."),
        ("sea.png", {"strength": "much"}, "The strength lies between 0 and 1; much does not."),
        ("sea.png", {"fidelity": 2}, "The fidelity lies between 0 and 1; 2 does not."),
        ("sea.png", {"fidelity": 0.5}, "The model bundled has no fidelity to set. Please leave it out."),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_and_the_app_lives_on(
    client, tmp_path, astronaut, name, options, line
):
    with pytest.raises(AppError) as error:
        ask(client, broken(name, tmp_path / name, astronaut), **options)
    assert str(error.value).startswith(line) and "\n" not in str(error.value)
    result, _ = ask(client, picture(tmp_path / "after.png"), enlarge=1)
    assert Image.open(result).size == (90, 60)


def test_eight_at_once_each_gets_its_own_and_the_memory_comes_back(app, three_faces, tmp_path):
    def one(index):
        file = tmp_path / f"{index}.png"
        two_faces = Image.open(three_faces).crop((300, 0, 640, 330)).resize((300 + 4 * index, 290))
        two_faces.point(lambda level: level * (8 + index) // 16).save(file)
        (tmp_path / f"for-{index}").mkdir(exist_ok=True)
        result, faces = ask(connect(app, tmp_path / f"for-{index}"), file)
        return Image.open(file), Image.open(result), faces

    def at_once(count):
        with ThreadPoolExecutor(count) as pool:
            answers = list(pool.map(one, range(count)))
        time.sleep(1)
        return answers, app.memory()

    answers, before = at_once(8)
    for sent, received, faces in answers:
        assert received.size == (2 * sent.width, 2 * sent.height) and len(faces) >= 2
        assert abs(np.asarray(sent).mean() - np.asarray(received).mean()) < 2
    _, after = at_once(4)
    assert after - before < 60e6


def test_a_cancelled_job_makes_room_at_once(client, app, three_faces, tmp_path):
    Image.open(three_faces).resize((2400, 1240)).save(tmp_path / "large.jpg")  # a minute and more
    job = client.submit(photo=handle_file(tmp_path / "large.jpg"), enlarge=4, api_name="/enhance")
    while job.status().progress_data is None:
        time.sleep(0.05)
    time.sleep(1)
    words = job.status().progress_data[0].desc
    assert re.fullmatch(r"Looking for faces|Enhancing face \d of \d|Sharpening the picture, tile \d+ of \d+.*", words)
    start = time.monotonic()
    job.cancel()
    ask(connect(app, tmp_path), picture(tmp_path / "next.png"), enlarge=1)
    assert time.monotonic() - start < 30


def test_several_pictures_and_zips(client, three_faces, tmp_path):
    with zipfile.ZipFile(tmp_path / "album.zip", "w") as album:
        album.write(three_faces, "1950/family.jpg")
        album.write(three_faces, "/etc/family.jpg")
        album.write(three_faces, "../../passed over.jpg")
        album.writestr("1950/notes.jpg", "no picture")
        album.writestr("1950/readme.txt", "passed over")
        album.writestr("__MACOSX/1950/._family.jpg", "passed over")
    picture(tmp_path / "sea.png")
    files = [handle_file(tmp_path / name) for name in ("album.zip", "sea.png", "sea.png")]
    result, records = client.predict(files=files, enlarge=1, api_name="/enhance_batch")
    with zipfile.ZipFile(result) as archive:
        assert archive.namelist() == [
            "1950/family.jpg", "etc/family.jpg", "sea.png", "sea (2).png", "results.csv"
        ]  # fmt: skip
        assert Image.open(io.BytesIO(archive.read("1950/family.jpg"))).size == (640, 330)
        assert archive.read("results.csv").decode().splitlines()[0] == "file,faces,enhanced,seconds,remark"
    assert [(record["file"], record["faces"], record["enhanced"]) for record in records] == [
        ("1950/family.jpg", 3, 3), ("etc/family.jpg", 3, 3), ("1950/notes.jpg", 0, 0), ("sea.png", 0, 0),
        ("sea (2).png", 0, 0),
    ]  # fmt: skip
    assert records[2]["remark"].startswith("notes.jpg is not a picture")


def test_what_strangers_put_into_a_zip(client, tmp_path):
    picture(tmp_path / "=1+1.png")
    with zipfile.ZipFile(tmp_path / "album.zip", "w") as album:
        for file in [tmp_path / "=1+1.png", *(Path(__file__).parents[1] / "data" / "hostile").iterdir()]:
            album.write(file, file.name)
        album.writestr("page.jpg", "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\nshowpage\n%%EOF\n")
    result, records = client.predict(files=[handle_file(tmp_path / "album.zip")], enlarge=1, api_name="/enhance_batch")
    remarks = {record["file"]: record["remark"] for record in records}
    assert remarks.pop("page.jpg").startswith("page.jpg is not a picture that we can read")
    assert len(remarks) == 5 and remarks["png_decoder_asserts.png"].endswith("is damaged. Do you have another copy?")
    with zipfile.ZipFile(result) as archive:
        assert len(archive.namelist()) == 5
        assert "\n'=1+1.png," in archive.read("results.csv").decode().replace("\r\n", "\n")


def test_every_common_format_comes_back_as_it_was(client, three_faces, tmp_path):
    photo = Image.open(three_faces).crop((60, 40, 240, 220))
    with_alpha = photo.convert("RGBA")
    with_alpha.putalpha(100)
    pictures = dict.fromkeys(["a.jpg", "a.avif", "a.bmp", "a.jp2", "a.ppm", "a.tif", "a.webp"], photo)
    pictures |= {
        "alpha.png": with_alpha,
        "deep.png": Image.fromarray(np.asarray(photo.convert("L")).astype("uint16") * 257),
    }
    for name, image in pictures.items():
        image.save(tmp_path / name)
    files = [handle_file(tmp_path / name) for name in pictures]
    result, _ = client.predict(files=files, enlarge=1, background=False, api_name="/enhance_batch")
    with zipfile.ZipFile(result) as archive:
        for name in pictures:
            sent, received = Image.open(tmp_path / name), Image.open(io.BytesIO(archive.read(name)))
            assert (received.format, received.mode, received.size) == (sent.format, sent.mode, sent.size)
            if name in ("a.jpg", "a.avif", "a.tif", "a.webp"):
                said = received.getexif()[ExifTags.Base.Software]
                assert said.startswith("hf-faceenh") and "upscale=1, strength=1.0" in said


def test_zips_that_are_refused(client, tmp_path):
    def line(write, name="a.zip"):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            write(archive)
        with pytest.raises(AppError) as error:
            client.predict(files=[handle_file(tmp_path / name)], api_name="/enhance_batch")
        return str(error.value)

    assert line(lambda archive: archive.writestr("readme.txt", "")).startswith("There is no picture among these")
    many = line(lambda archive: [archive.writestr(f"{index}.jpg", "") for index in range(51)])
    assert many == "These are 51 pictures; 50 at once is the most."
    bomb = line(lambda archive: archive.writestr("bomb.png", bytes(201 * 2**20)))
    assert bomb == "Together they have 201 MB; 200 MB at once is the most."
    texts = line(lambda archive: [archive.writestr(f"{index}.txt", "") for index in range(1001)])
    assert texts == "a.zip holds too many files; 1000 in a zip is the most."
    (tmp_path / "a.zip").write_text("no zip")
    with pytest.raises(AppError, match=r"a\.zip is not a zip that can be opened\."):
        client.predict(files=[handle_file(tmp_path / "a.zip")], api_name="/enhance_batch")


def test_the_names_for_programs_and_their_example(client, app, three_faces, tmp_path, monkeypatch):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert {name: [p["parameter_name"] for p in info["parameters"]] for name, info in endpoints.items()} == {
        "/enhance": ["photo", "enlarge", "strength", "background", "faces", "aligned", "anyway", "fidelity", "model"],
        "/enhance_batch": ["files", "enlarge", "strength", "background", "aligned", "anyway", "fidelity", "model"],
    }
    monkeypatch.chdir(tmp_path)
    for name in ("old.jpg", "a.jpg", "b.jpg"):
        Path(name).write_bytes(three_faces.read_bytes())
    (code,) = re.findall("```python\n(.*?)```", README.read_text(), re.DOTALL)
    names = {}
    exec(code.replace("http://127.0.0.1:7860", app.url), names)
    assert len(names["faces"]) == 3 and [record["faces"] for record in names["records"]] == [3, 3]


def test_nobody_else_reads_the_files(client, app, three_faces):
    ask(client, three_faces, enlarge=1)
    paths = list(app.folder.rglob("*"))
    assert any(path.name == "three_prints.jpg" for path in paths)
    (root,) = app.folder.glob("face-enhancement-*")
    assert root.stat().st_mode & 0o077 == 0
    for path in ("/etc/passwd", str(README), f"{root}", f"{root}/../../etc/passwd"):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(f"{app.url}/gradio_api/file={path}")
        assert error.value.code in (403, 404)


SPACES = """
import functools, pickle

def GPU(function):
    @functools.wraps(function)
    def elsewhere(*arguments):
        print("on the GPU", flush=True)
        try:
            return pickle.loads(pickle.dumps(function(*pickle.loads(pickle.dumps(arguments)))))
        except Exception as error:
            raise pickle.loads(pickle.dumps(error))
    return elsewhere
"""


def fidelity_sliders(client):
    found = [one["props"] for one in client.config["components"] if one["props"].get("label") == "Fidelity"]
    assert len(found) == 2  # one picture, and several
    return found


def test_visitors_choose_between_the_bundled_enhancers(client, three_faces, tmp_path):
    styles = [one["props"] for one in client.config["components"] if one["props"].get("label") == "Style"]
    assert [style["choices"] for style in styles] == [[["Faithful", "bundled"], ["Vivid (guesses more)", "vivid"]]] * 2
    Image.open(three_faces).crop((60, 40, 240, 220)).save(tmp_path / "one.png")
    faithful, vivid = (ask(client, tmp_path / "one.png", enlarge=1, model=name)[0] for name in ("bundled", "vivid"))
    assert Image.open(faithful).tobytes() != Image.open(vivid).tobytes()
    assert Image.open(faithful).text["Software"] != Image.open(vivid).text["Software"]  # which names the model


def test_no_slider_without_a_dial(client):
    assert not any(slider["visible"] for slider in fidelity_sliders(client))


def test_another_model_on_zero_gpu_and_nothing_left_behind(running_app, bundled, three_faces, tmp_path):
    """Where `spaces` is installed, arguments and results go from process to process."""
    for name in ("space", "app", "model"):
        (tmp_path / name).mkdir()
    (tmp_path / "space" / "spaces.py").write_text(SPACES)
    tiny_pipeline(bundled, enhancer=tiny_codeformer()).save_pretrained(tmp_path / "model")
    environment = {"PYTHONPATH": str(tmp_path / "space"), "MODELS": f"{tmp_path / 'model'}, fast"}
    secret = tmp_path / "aunt_emily.jpg"
    secret.write_bytes(three_faces.read_bytes())
    with running_app(tmp_path / "app", **environment) as app:
        client = connect(app, tmp_path / "space")
        result, faces = ask(client, secret)
        assert len(faces) == 3 and Image.open(result).size == (1280, 660)
        assert ask(client, secret, fidelity=0.5, anyway=True)[1] == ask(client, secret, anyway=True)[1]
        assert all(slider["visible"] and slider["value"] == 0.5 for slider in fidelity_sliders(client))
        fast, _ = ask(client, secret, model="fast")
        assert Path(fast).read_bytes() != Path(result).read_bytes()
        with pytest.raises(AppError, match="The model fast has no fidelity to set"):
            ask(client, secret, model="fast", fidelity=0.5)
        with pytest.raises(AppError, match="There is no model other here, but .*, fast"):
            ask(client, secret, model="other")
        with pytest.raises(AppError, match="That face is not in the picture"):
            ask(client, secret, faces=[9])
    printed = "".join(app.printed)
    assert printed.count("on the GPU") == 5
    assert "aunt_emily" not in printed and "Traceback" not in printed
    assert not [*(tmp_path / "app").glob("face-enhancement-*"), *(tmp_path / "app").rglob("*.jpg")]
