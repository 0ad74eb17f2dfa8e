"""A Gradio Space: a photograph in, the enhanced one out. `python space/app.py` runs it locally."""

import atexit
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Literal

import batch
import chooser
import gradio as gr
import page
import pictures
import runs
from pace import Pace, duration
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
SIDES = "Before and after"
NO_DOWNLOAD = gr.DownloadButton(visible=False)
EXAMPLES = sorted((HERE / "examples").glob("*.jpg"))
FIRST_VIEW = pictures.first_view(EXAMPLES[0])


def named(file: dict | None) -> tuple[Path, str]:
    """Where Gradio has put an upload, and what the visitor calls it."""
    if not file or not file.get("path"):
        raise Refused("Please add a picture first.")
    return Path(file["path"]), file.get("orig_name") or Path(file["path"]).name


def wish(enlarge, strength, background, aligned, anyway, model, fidelity, which=ALL, chosen=()) -> Wishes:
    if which == SOME and not aligned and not chosen:
        raise Refused("Please click at least one face, or go back to all faces.")
    faces = tuple(chosen) if which == SOME and not aligned else None
    fidelity = None if pictures.FIDELITIES[model] is None else fidelity  # the page's slider is there, but hidden
    return Wishes(enlarge, strength, background, aligned, faces, anyway, fidelity, model)


# The first tab


def look(photo: dict | None, found: list | None, *options) -> str:
    """What there is to say about a picture before the work starts; `found` are the boxes of its faces."""
    if photo is None:
        return LIMITS
    try:
        wishes = Wishes(*options)
        pixels = pictures.check(*named(photo), wishes)
    except Refused as error:
        return f"⚠️ {error.message}"
    seconds = duration(Pace.estimate(pixels, wishes, len(found or ())))
    faces = "" if found is None else "1 face found. " if len(found) == 1 else f"{len(found) or 'No'} faces found. "
    return f"{pixels:.1f} megapixels in, {pixels * wishes.enlarge**2:.1f} out. {faces}Takes about {seconds}."


def find(photo: dict | None) -> list | None:
    """The boxes of the faces."""
    try:
        return pictures.find_faces(*named(photo))
    except Refused:  # `look` says why
        return None


def offer_faces(photo: dict | None, which: str, found: list | None) -> dict:
    """The faces to click on."""
    hidden = gr.HTML([], picture="", faces=[], visible=False)
    if photo is None or which == ALL or found is None:
        return hidden
    try:
        image = pictures.upright(*named(photo))
    except Refused:
        return hidden
    return gr.HTML([], **asdict(chooser.chooser(image, found)), visible=True)


NOTHING = {"value": "", "visible": False}


def cleared(message: str = "") -> tuple:
    """Nothing of an earlier result; instead, why there is none."""
    said = gr.HTML(page.show_message(message), visible=True) if message else gr.HTML(**NOTHING)
    return said, gr.ImageSlider(None, label=SIDES), gr.HTML(**NOTHING), gr.Button(visible=False), NO_DOWNLOAD


async def show_enhanced(
    photo, enlarge, which, chosen, strength, background, aligned, anyway, model, fidelity, request: gr.Request
):
    try:
        path, name = named(photo)
        wishes = wish(enlarge, strength, background, aligned, anyway, model, fidelity, which, chosen)
        result = await runs.in_thread(pictures.enhance, path, name, wishes, request=request)
    except gr.Error as error:
        return cleared(page.line(error))
    return (
        gr.HTML(**NOTHING),
        result.sides,
        gr.HTML(page.show_faces(result), visible=True),
        gr.Button(visible=any(face.sharp_enough for face in result.faces)),
        gr.DownloadButton(f"Download {result.file.name}", value=result.file, visible=True),
    )


# The second tab


def look_batch(files: list[dict] | None) -> str:
    if not files:
        return BATCH_LIMITS
    try:
        count = batch.count([named(file) for file in files])
    except Refused as error:
        return f"⚠️ {error.message}"
    return "1 picture." if count == 1 else f"{count} pictures."


async def show_batch(files, enlarge, strength, background, aligned, anyway, model, fidelity, request: gr.Request):
    try:
        uploads = [named(file) for file in files or [None]]
        wishes = wish(enlarge, strength, background, aligned, anyway, model, fidelity)
        archive, records = await runs.in_thread(batch.enhance_batch, uploads, wishes, request=request)
    except gr.Error as error:
        return page.show_message(page.line(error)), NO_DOWNLOAD
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
    anyway: bool = False,
    fidelity: float | None = None,
    model: str | None = None,
) -> tuple[gr.FileData, list[dict]]:
    """Enhances one picture.

    photo: a file (`gradio_client.handle_file`). enlarge: 1, 2 or 4. strength: of the enhanced faces, 0 to 1.
    background: also improve what is not face. faces: which, by their numbers in the returned list, from 0; all by
    default. aligned: the picture is one face, already cropped. anyway: also enhance faces that are sharp enough.
    fidelity: how much a model with such a dial keeps to the old face, 0 to 1. model: one of those that this Space has.
    Returns the picture, in the format and under the name of the input, and for every face its box (px), its score and
    why it was left alone (null if it was enhanced).
    """
    path, name = named(photo)
    chosen = None if faces is None else tuple(faces)
    wishes = Wishes(enlarge, strength, background, aligned, chosen, anyway, fidelity, model)
    result = await runs.in_thread(partial(pictures.enhance, sides=False), path, name, wishes, request=request)
    return as_file(result.file), [pictures.as_record(face) for face in result.faces]


async def api_enhance_batch(
    files: list[gr.FileData],
    request: gr.Request,
    enlarge: Literal[1, 2, 4] = 2,
    strength: float = 1.0,
    background: bool = True,
    aligned: bool = False,
    anyway: bool = False,
    fidelity: float | None = None,
    model: str | None = None,
) -> tuple[gr.FileData, list[dict]]:
    """Enhances several pictures, or zips of pictures.

    Returns a zip, and for every picture its name, how many faces were found and enhanced, the seconds it took and a
    remark, e.g. why it could not be enhanced.
    """
    uploads = [named(file) for file in files or [None]]
    wishes = Wishes(enlarge, strength, background, aligned, anyway=anyway, fidelity=fidelity, model=model)
    archive, records = await runs.in_thread(batch.enhance_batch, uploads, wishes, request=request)
    return as_file(archive), records


def as_file(path: Path) -> dict:
    return gr.FileData(path=str(path), orig_name=path.name).model_dump()


# The page

PRIVATE = {"api_visibility": "private"}
QUICK = {"queue": False, "show_progress": "hidden", **PRIVATE}
STYLES = {  # what visitors read of the bundled enhancers
    pictures.BUNDLED: "Faithful",
    "vivid": "Vivid (guesses more)",
}
MODELS = {"concurrency_id": "models", "concurrency_limit": 1}  # one picture at a time, for all visitors


def buttons(label: str) -> tuple[gr.Button, gr.Button]:
    with gr.Row():
        return (
            gr.Button(label, variant="primary", scale=3, min_width=120),
            gr.Button("Stop", interactive=False, scale=1, min_width=80),
        )


def run(begun: gr.events.Dependency, stop: gr.Button, function, inputs, outputs, progress_on):
    """Lets `function` work after `begun`, and then has nothing left to stop."""
    working = begun.then(
        function,
        inputs,
        outputs,
        preprocess=False,
        show_progress_on=progress_on,
        scroll_to_output=True,
        **MODELS,
        **PRIVATE,
    )
    working.then(lambda: gr.Button("Stop", interactive=False), outputs=stop, **QUICK)
    return working


def one_picture() -> None:
    found = gr.State(None)
    with gr.Row():
        with gr.Column(min_width=320):
            photo = gr.Image(
                label="Your picture", sources=["upload", "clipboard", "webcam"], type="filepath", height=360,
                alt_text="The picture to enhance", elem_id="photo", buttons=["fullscreen"],
            )  # fmt: skip
            gr.Examples(
                [[str(path)] for path in EXAMPLES], photo, label="Or try one of these",
                elem_id="examples", cache_examples=False, api_visibility="private",
            )  # fmt: skip
            note = gr.Markdown(LIMITS, elem_classes="note")
            enlarge, model = size_of_result(), model_of_faces()
            which = gr.Radio([ALL, SOME], value=ALL, label="Which faces")
            choice = gr.HTML(
                [], picture="", faces=[], html_template=chooser.TEMPLATE, js_on_load=chooser.SCRIPT,
                visible=False, elem_id="chooser",
            )  # fmt: skip
            with gr.Accordion("More settings", open=False):
                settings = more_settings(model)
            start, stop = buttons("Enhance")
        with gr.Column(min_width=320, scale=2):
            message = gr.HTML(visible=False)
            slider = gr.ImageSlider(
                FIRST_VIEW, label="An example" if FIRST_VIEW else SIDES, type="filepath", interactive=False,
                max_height=720, elem_id="slider", buttons=["fullscreen"],
            )  # fmt: skip
            download = gr.DownloadButton("Download", visible=False, variant="primary", elem_id="download")
            again = gr.Button("Enhance the sharp ones anyway", visible=False, elem_id="anyway")
            faces = gr.HTML(visible=False, elem_id="faces")

    strength, background, aligned, anyway, *_ = settings
    described = [photo, found, enlarge, strength, background, aligned]
    gr.on([enlarge.change, background.change], look, described, note, preprocess=False, **QUICK)
    looked = photo.change(lambda: None, outputs=found, **QUICK).then(look, described, note, preprocess=False, **QUICK)
    searched = looked.then(
        find, photo, found, preprocess=False, concurrency_id="look", concurrency_limit=1, show_progress="hidden",
        **PRIVATE,
    )  # fmt: skip
    searched.then(look, described, note, preprocess=False, **QUICK)
    for event in (searched.then, which.change):
        event(offer_faces, [photo, which, found], choice, preprocess=False, **QUICK)
    results = [message, slider, faces, again, download]
    photo.change(cleared, None, results, **QUICK)
    inputs = [photo, enlarge, which, choice, *settings]
    begun = start.click(begin, outputs=[stop, *results], **QUICK)
    wanted = again.click(lambda: True, outputs=anyway, **QUICK).then(begin, outputs=[stop, *results], **QUICK)
    working = [run(one, stop, show_enhanced, inputs, results, slider) for one in (begun, wanted)]
    stop.click(lambda: gr.Button(interactive=False), outputs=stop, cancels=working, **QUICK)


def begin(request: gr.Request) -> tuple:
    """Nothing is shown of an earlier run while a new one works."""
    runs.begin(request)
    return gr.Button("Stop", interactive=True), *cleared()


def size_of_result() -> gr.Radio:
    return gr.Radio([("Same size", 1), ("2×", 2), ("4×", 4)], value=2, label="Enlarge")


def model_of_faces() -> gr.Radio:
    """It appears where there is a choice."""
    choices = [(STYLES.get(name, name), name) for name in pictures.MODELS]
    return gr.Radio(choices, value=pictures.MODELS[0], label="Style", visible=len(choices) > 1)


def more_settings(model: gr.Radio) -> tuple[gr.Slider, gr.Checkbox, gr.Checkbox, gr.Checkbox, gr.Radio, gr.Slider]:
    settings = (
        gr.Slider(0, 1, value=1, step=0.05, label="Strength", info="0 keeps the faces, 1 replaces them."),
        gr.Checkbox(True, label="Improve the background too", info="Slower, but all of the picture gets sharper."),
        gr.Checkbox(False, label="This is one face, already cropped", info="A square picture with nothing else."),
        gr.Checkbox(False, label="Enhance sharp faces too", info="They may lose detail."),
        model,
        fidelity_slider(pictures.MODELS[0]),
    )
    model.change(fidelity_slider, model, settings[-1], **QUICK)
    return settings


def fidelity_slider(model: str) -> gr.Slider:
    """It appears with a model that has such a dial."""
    usual = pictures.FIDELITIES[model]
    info = "0 gives the sharpest face, 1 the one nearest to the old one."
    return gr.Slider(0, 1, value=usual, step=0.05, label="Fidelity", visible=usual is not None, info=info)


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
            enlarge, model = size_of_result(), model_of_faces()
            with gr.Accordion("More settings", open=False):
                settings = more_settings(model)
            start, stop = buttons("Enhance all")
        with gr.Column(min_width=320, scale=2):
            table = gr.HTML(elem_id="records", min_height=140)
            download = gr.DownloadButton("Download the zip", visible=False, variant="primary", elem_id="download-zip")
    files.change(look_batch, files, note, preprocess=False, **QUICK)
    begun = start.click(begin_batch, outputs=[stop, table, download], **QUICK)
    run(begun, stop, show_batch, [files, enlarge, *settings], [table, download], table)
    stop.click(stop_batch, outputs=stop, **QUICK)


def begin_batch(request: gr.Request) -> tuple:
    runs.begin(request)
    return gr.Button("Stop", interactive=True), "", NO_DOWNLOAD


def stop_batch(request: gr.Request) -> dict:
    """The run itself ends, as it has finished pictures to give."""
    runs.stop(request)
    return gr.Button("Stopping…", interactive=False)


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
    demo.unload(runs.leave)

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
