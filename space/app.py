"""A Gradio Space: a photograph in, the enhanced one out. `python space/app.py` runs it locally."""

import asyncio
import atexit
import os
import shutil
import signal
import sys
import tempfile
import traceback
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

import batch
import gradio as gr
import page
import pictures
from previews import data_url
from wishes import Refused, Wishes

HERE = Path(__file__).parent
KEPT = 20  # minutes that a visitor's pictures and results are kept at most
WAITING = 20  # visitors at once; more are asked to come back
os.umask(0o077)  # what is written here, only this process reads
os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="face-enhancement-")
atexit.register(shutil.rmtree, os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)

LIMITS = f"At most {pictures.MEGABYTES} MB and {pictures.MEGAPIXELS} megapixels."
BATCH_LIMITS = f"At most {batch.FILES} pictures and {batch.MEGABYTES} MB at once. {LIMITS}"
ALL, SOME = "All faces", "The ones I choose"

# For each run, the file whose existence stops it, and whose it is (Gradio's session).
running: dict[Path, str | None] = {}


async def in_thread(function, *arguments, request: gr.Request) -> Any:
    """Runs `function(*arguments, folder, stop)` in a thread, and stops it when the visitor cancels or leaves."""
    folder = pictures.new_folder()
    stop = folder / "stop"
    running[stop] = request.session_hash
    thread = asyncio.ensure_future(asyncio.to_thread(function, *arguments, folder, stop))
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:  # Gradio's Stop button, and `job.cancel()` of its client
        stop.touch()
        with suppress(Exception):
            await thread
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except gr.Error:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except Exception as error:  # a bug: where it happened is printed, but nothing of the visitor's
        shutil.rmtree(folder, ignore_errors=True)
        places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
        print(f"{type(error).__name__} at {' > '.join(places)}", file=sys.stderr)
        raise Refused("Something went wrong on our side. Please try again, or try another picture.") from None
    finally:
        del running[stop]


def leave(request: gr.Request) -> None:
    """The visitor has closed the page."""
    for stop, session in list(running.items()):
        if session == request.session_hash:
            stop.touch()


def named(file: dict | None) -> tuple[Path, str]:
    """Where Gradio has put an upload, and what the visitor calls it."""
    if not file or not file.get("path"):
        raise Refused("Please add a picture first.")
    return Path(file["path"]), file.get("orig_name") or Path(file["path"]).name


def wish(enlarge, strength, background, aligned, which=ALL, chosen=()) -> Wishes:
    if which == SOME and not aligned and not chosen:
        raise Refused("Please click at least one face, or go back to all faces.")
    faces = tuple(chosen) if which == SOME and not aligned else None
    return Wishes(enlarge, strength, background, aligned, faces)


# The first tab


def look(photo: dict | None, *options) -> str:
    """What there is to say about a picture before the work starts."""
    if photo is None:
        return LIMITS
    try:
        wishes = Wishes(*options)
        pixels = pictures.check(*named(photo), wishes)
    except Refused as error:
        return f"⚠️ {error.message}"
    seconds = pictures.duration(pictures.Pace.estimate(pixels, wishes))
    return f"{pixels:.1f} megapixels in, {pixels * wishes.enlarge**2:.1f} out: takes about {seconds}."


def offer_faces(photo: dict | None, which: str) -> dict:
    """The photograph with a frame on each face, to click on."""
    hidden = gr.HTML([], picture="", boxes=[], visible=False)
    if photo is None or which == ALL:
        return hidden
    try:
        image, faces = pictures.find_faces(*named(photo))
    except Refused:  # `look` says why
        return hidden
    boxes = [page.in_percent(face.box, image.size) for face in faces]
    return gr.HTML([], picture=data_url(image, largest=1.0), boxes=boxes, visible=True)


async def show_enhanced(photo, enlarge, which, chosen, strength, background, aligned, request: gr.Request):
    path, name = named(photo)
    wishes = wish(enlarge, strength, background, aligned, which, chosen)
    result = await in_thread(pictures.enhance, path, name, wishes, request=request)
    download = gr.DownloadButton(f"Download {result.file.name}", value=result.file, visible=True)
    return result.sides, gr.HTML(page.show_faces(result), visible=True), download


# The second tab


def look_batch(files: list[dict] | None) -> str:
    if not files:
        return BATCH_LIMITS
    try:
        count = batch.count([named(file) for file in files])
    except Refused as error:
        return f"⚠️ {error.message}"
    return "1 picture." if count == 1 else f"{count} pictures."


async def show_batch(files, enlarge, strength, background, aligned, request: gr.Request):
    uploads = [named(file) for file in files or [None]]
    wishes = wish(enlarge, strength, background, aligned)
    archive, records = await in_thread(batch.enhance_batch, uploads, wishes, request=request)
    return page.show_records(records), gr.DownloadButton(value=archive, visible=True)


# The interface for programs


async def api_enhance(
    photo: gr.FileData,
    request: gr.Request,
    enlarge: Literal[1, 2, 4] = 2,
    strength: float = 1.0,
    background: bool = True,
    faces: list[int] | None = None,
    aligned: bool = False,
) -> tuple[gr.FileData, list[dict]]:
    """Enhances one picture.

    photo: a file (`gradio_client.handle_file`). enlarge: 1, 2 or 4. strength: of the enhanced faces, 0 to 1.
    background: also improve what is not face. faces: which, by their numbers in the returned list, from 0; all by
    default. aligned: the picture is one face, already cropped. Returns the picture, in the format and under the name
    of the input, and for every face its box (px), its score and why it was left alone (null if it was enhanced).
    """
    path, name = named(photo)
    wishes = Wishes(enlarge, strength, background, aligned, None if faces is None else tuple(faces))
    result = await in_thread(partial(pictures.enhance, sides=False), path, name, wishes, request=request)
    return as_file(result.file), [pictures.as_record(face) for face in result.faces]


async def api_enhance_batch(
    files: list[gr.FileData],
    request: gr.Request,
    enlarge: Literal[1, 2, 4] = 2,
    strength: float = 1.0,
    background: bool = True,
    aligned: bool = False,
) -> tuple[gr.FileData, list[dict]]:
    """Enhances several pictures, or zips of pictures.

    Returns a zip, and for every picture its name, how many faces were found and enhanced, the seconds it took and a
    remark, e.g. why it could not be enhanced.
    """
    uploads = [named(file) for file in files or [None]]
    wishes = Wishes(enlarge, strength, background, aligned)
    archive, records = await in_thread(batch.enhance_batch, uploads, wishes, request=request)
    return as_file(archive), records


def as_file(path: Path) -> dict:
    return gr.FileData(path=str(path), orig_name=path.name).model_dump()


# The page

PRIVATE = {"api_visibility": "private"}
QUICK = {"queue": False, "show_progress": "hidden", **PRIVATE}
MODELS = {"concurrency_id": "models", "concurrency_limit": 1}  # one picture at a time, for all visitors


def buttons(label: str) -> tuple[gr.Button, gr.Button]:
    with gr.Row():
        return (
            gr.Button(label, variant="primary", scale=3, min_width=120),
            gr.Button("Stop", interactive=False, scale=1, min_width=80),
        )


def run(start: gr.Button, stop: gr.Button, function, inputs, outputs, progress_on) -> None:
    """Lets `start` run `function`, and `stop` cancel it."""
    active, idle = (lambda: gr.Button(interactive=True)), (lambda: gr.Button(interactive=False))
    clicked = start.click(active, outputs=stop, **QUICK)
    working = clicked.then(
        function,
        inputs,
        outputs,
        preprocess=False,
        show_progress_on=progress_on,
        scroll_to_output=True,
        **MODELS,
        **PRIVATE,
    )
    working.then(idle, outputs=stop, **QUICK)
    stop.click(idle, outputs=stop, cancels=[working], **QUICK)


def one_picture() -> None:
    with gr.Row():
        with gr.Column(min_width=320):
            photo = gr.Image(
                label="Your picture", sources=["upload", "clipboard", "webcam"], type="filepath", height=360,
                alt_text="The picture to enhance", elem_id="photo", buttons=["fullscreen"],
            )  # fmt: skip
            note = gr.Markdown(LIMITS, elem_classes="note")
            enlarge = size_of_result()
            which = gr.Radio([ALL, SOME], value=ALL, label="Which faces")
            chooser = gr.HTML(
                [], picture="", boxes=[], html_template=page.CHOOSE_TEMPLATE, js_on_load=page.CHOOSE_SCRIPT,
                visible=False, elem_id="chooser",
            )  # fmt: skip
            with gr.Accordion("More settings", open=False):
                strength, background, aligned = more_settings()
            start, stop = buttons("Enhance")
        with gr.Column(min_width=320, scale=2):
            slider = gr.ImageSlider(
                label="Before and after", type="filepath", interactive=False, max_height=720, elem_id="slider",
                buttons=["fullscreen"],
            )  # fmt: skip
            download = gr.DownloadButton("Download", visible=False, variant="primary", elem_id="download")
            faces = gr.HTML(visible=False, elem_id="faces")
    gr.Examples(
        [[str(path)] for path in sorted((HERE / "examples").glob("*.jpg"))], photo, label="Or try one of these",
        elem_id="examples", cache_examples=False, api_visibility="private",
    )  # fmt: skip
    options = [enlarge, strength, background, aligned]
    gr.on(
        [photo.change, enlarge.change, background.change],
        look, [photo, *options], note, preprocess=False, **QUICK,
    )  # fmt: skip
    gr.on(
        [photo.change, which.change], offer_faces, [photo, which], chooser,
        preprocess=False, concurrency_id="look", concurrency_limit=1, **PRIVATE,
    )  # fmt: skip
    results = [slider, faces, download]
    photo.change(lambda: (None, gr.HTML("", visible=False), gr.DownloadButton(visible=False)), None, results, **QUICK)
    inputs = [photo, enlarge, which, chooser, strength, background, aligned]
    run(start, stop, show_enhanced, inputs, results, slider)


def size_of_result() -> gr.Radio:
    return gr.Radio([("Same size", 1), ("2×", 2), ("4×", 4)], value=2, label="Enlarge")


def more_settings() -> tuple[gr.Slider, gr.Checkbox, gr.Checkbox]:
    return (
        gr.Slider(0, 1, value=1, step=0.05, label="Strength", info="0 keeps the faces, 1 replaces them."),
        gr.Checkbox(True, label="Improve the background too", info="Slower, but all of the picture gets sharper."),
        gr.Checkbox(False, label="This is one face, already cropped", info="A square picture with nothing else."),
    )


def many_pictures() -> None:
    with gr.Row():
        with gr.Column(min_width=320):
            files = gr.File(
                file_count="multiple",
                file_types=["image", ".zip"],
                label="Pictures, or a zip of them",
                elem_id="files",
            )
            note = gr.Markdown(BATCH_LIMITS, elem_classes="note")
            enlarge = size_of_result()
            with gr.Accordion("More settings", open=False):
                strength, background, aligned = more_settings()
            start, stop = buttons("Enhance all")
        with gr.Column(min_width=320, scale=2):
            table = gr.HTML(elem_id="records", min_height=140)
            download = gr.DownloadButton("Download the zip", visible=False, variant="primary", elem_id="download-zip")
    files.change(look_batch, files, note, preprocess=False, **QUICK)
    run(start, stop, show_batch, [files, enlarge, strength, background, aligned], [table, download], table)


with gr.Blocks(title="Face enhancement", analytics_enabled=False, delete_cache=(60, (KEPT - 1) * 60)) as demo:
    gr.Markdown("# Face enhancement")
    gr.Markdown(
        "Makes the faces of old and blurred photographs sharper, and the rest of the picture too. "
        f"Your pictures are deleted after at most {KEPT} minutes; no one else sees them.",
        elem_classes="lead",
    )
    with gr.Tab("One picture"):
        one_picture()
    with gr.Tab("Several"):
        many_pictures()
    with gr.Tab("About"):
        gr.HTML((HERE / "flows.svg").read_text(), elem_classes="flows")
        gr.Markdown((HERE / "how_it_works.md").read_text())
    gr.api(api_enhance, api_name="enhance", **MODELS)
    gr.api(api_enhance_batch, api_name="enhance_batch", **MODELS)
    demo.unload(leave)

demo.queue(max_size=WAITING, default_concurrency_limit=1)

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the pictures are deleted on the way out
    demo.launch(
        theme=page.THEME,
        css_paths=HERE / "style.css",
        js=(HERE / "page.js").read_text(),
        max_file_size=f"{batch.MEGABYTES}mb",
        footer_links=["api"],
        run_history=False,  # nothing of a visitor's is kept, not even in the browser
        enable_monitoring=False,
    )
