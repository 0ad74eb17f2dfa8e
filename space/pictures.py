"""What the Space does with the pictures of one visitor: check, enhance, write what is given back.

Every mistake becomes `Refused`. Everything is written into folders that only this process can read, under names that
cannot be guessed; `app.py` has them deleted.
"""

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from diffusers.utils import logging
from gradio_client.utils import strip_invalid_filename_characters
from pace import Pace, duration
from PIL import Image
from previews import LARGEST, data_url, preview
from wishes import Refused, Stopped, Wishes

from hf_faceenh import EnhancedFace, FaceEnhanceOutput
from hf_faceenh.allocator import keep_freed_memory
from hf_faceenh.enhancing import dial
from hf_faceenh.faces import FaceChoiceError, Reason
from hf_faceenh.faults import Fault, fault_of, short_of_memory
from hf_faceenh.jobs import result_size, size_of
from hf_faceenh.likeness import in_words
from hf_faceenh.loading import load_pipeline
from hf_faceenh.pictures import LoadedImage, heic
from hf_faceenh.pictures.frames import Frames
from hf_faceenh.pictures.output import to_8_bits
from hf_faceenh.pictures.reading import identified
from hf_faceenh.pictures.writing import kept_format, suffix_of
from hf_faceenh.provenance import line

try:
    from spaces import GPU  # on ZeroGPU hardware the function runs in another process, which has the GPU

    ZERO_GPU = True
except ImportError:
    ZERO_GPU = False

    def GPU(function):
        return function


MEGABYTES = 20  # of one picture
MEGAPIXELS = 24  # of one picture
RESULT_MEGAPIXELS = 100
LARGEST_PAIR = 1.0  # megapixels of a face before or after, as the page shows it
AROUND = 0.9  # of a face's longer side, that is shown to every side of its middle

# From which to which part of the work each stage of the pipeline takes (measured on a CPU), and what it is called.
STAGES = {
    "detecting": (0.0, 0.1, "Looking for faces"),
    "super-resolving": (0.1, 0.8, "Sharpening the picture, tile {} of {}"),
    "enhancing": (0.8, 0.9, "Enhancing face {} of {}"),
    "fusing": (0.9, 1.0, "Putting it together, face {} of {}"),
}
REASONS = {
    Reason.TOO_SMALL: "Left alone: too small to improve.",
    Reason.SHARP_ENOUGH: "Left alone: sharper than we could make it.",
    Reason.NO_GAIN: "Left alone: it is clear already.",
    Reason.NOT_CHOSEN: "Left alone: you did not choose it.",
    Reason.IDENTITY: "Left alone: enhanced, it would look like somebody else.",
}
AT_STRENGTH_0 = "Left alone: the strength is 0."

BUNDLED = "bundled"
# Among which visitors may choose; the first is the default.
MODELS = [name.strip() for name in os.environ.get("MODELS", f"{BUNDLED},vivid").split(",")]
keep_freed_memory()
pipes = {name: load_pipeline(None if name == BUNDLED else name) for name in MODELS}
for one in pipes.values():
    one.set_progress_bar_config(disable=True)
pipe = pipes[MODELS[0]]  # which also reads and writes pictures for the others
FIDELITIES = {name: dial(one.enhancer) for name, one in pipes.items()}  # where visitors find it; `None`: no such dial
heic.register()
logging.set_verbosity_error()  # not even that a picture holds no face
ON_CPU = pipe.device.type == "cpu"
# On a CPU the steps are small, so that a visitor sees them go by and can stop between two of them.
STEPS = {"tile_size": 256, "face_batch_size": 1} if ON_CPU else {"tile_size": 512, "face_batch_size": 8}


@dataclass(frozen=True, slots=True)
class Face:
    """One face that was found.

    Args:
        box, score: as in its record.
        left_alone: why it was left alone; `None` if it was not.
        likeness: how like the face before it is, in words, if that is known.
        sharp_enough: whether it was left alone because of its detail.
    """

    box: tuple[float, float, float, float]
    score: float
    left_alone: str | None
    likeness: str | None
    sharp_enough: bool


@dataclass(frozen=True, slots=True)
class Result:
    """One enhanced picture: the file to download and, if wanted, what the page shows.

    Args:
        file: to download.
        size: of the result, in px.
        faces: in the order of the pipeline.
        sides: before and after, for the slider.
        pairs: of every face before and after, as `data:` addresses.
        seconds: that it took.
    """

    file: Path
    size: tuple[int, int]
    faces: list[Face]
    sides: tuple[Path, Path] | None
    pairs: list[tuple[str, str]]
    seconds: float

    @property
    def enhanced(self) -> int:
        return sum(face.left_alone is None for face in self.faces)


@dataclass(frozen=True, slots=True)
class Progress:
    """Moves the visitor's progress bar; of several pictures, each has its share of it, and so has each frame."""

    index: int = 0
    count: int = 1
    frame: int = 0
    frames: int = 1

    def __call__(self, fraction: float, words: str) -> None:
        picture = f"Picture {self.index + 1} of {self.count}. " if self.count > 1 else ""
        frame = f"Frame {self.frame + 1} of {self.frames}. " if self.frames > 1 else ""
        done = (self.frame + fraction) / self.frames
        gr.Progress()((self.index + done) / self.count, desc=picture + frame + words)


def new_folder() -> Path:
    """For the files of a run; its name cannot be guessed, because Gradio gives a file to anyone who names it."""
    folder = Path(os.environ["GRADIO_TEMP_DIR"]) / secrets.token_hex(16)
    folder.mkdir(mode=0o700)
    return folder


def megapixels(path: Path, name: str) -> float:
    """The size of a picture, of all its frames together, from headers alone.

    Raises:
        Refused: for what is no picture, or too large.
    """
    if not path.is_file():
        raise Refused("The picture is no longer here, as we keep pictures for a short time only. Please add it again.")
    if (size := path.stat().st_size) > MEGABYTES * 2**20:
        raise Refused(f"{name} has {size / 2**20:.0f} MB; a picture may have {MEGABYTES} MB here.")
    with (
        _refusing(f"{name} has far too many pixels; a picture may have {MEGAPIXELS} megapixels here.", ValueError),
        _refusing(f"{name} is not a picture that we can read. JPEG, PNG, WebP and TIFF will do.", OSError),
    ):
        with open(path, "rb") as file:
            image = identified(file, name, pipe.image_processor.limits)
            pixels = image.width * image.height / 1e6
        if pixels <= MEGAPIXELS:
            pixels = _frames(path, name).pixels / 1e6
    if pixels > MEGAPIXELS:
        raise Refused(f"{name} has {pixels:.0f} megapixels; a picture may have {MEGAPIXELS} here. Make it smaller.")
    return pixels


def check(path: Path, name: str, wishes: Wishes) -> float:
    """The same; also refuses a picture whose result would be too large, a model that is not here, and a fidelity
    where there is no dial."""
    if (model := model_of(wishes)) not in pipes:
        raise Refused(f"There is no model {model} here, but {', '.join(MODELS)}.")
    if wishes.fidelity is not None and FIDELITIES[model] is None:
        raise Refused(f"The model {model} has no fidelity to set. Please leave it out.")
    pixels = megapixels(path, name)
    if (result := pixels * wishes.enlarge**2) > RESULT_MEGAPIXELS:
        raise Refused(
            f"Enlarged {wishes.enlarge} times, {name} would have {result:.0f} megapixels; {RESULT_MEGAPIXELS} is the "
            "most. Enlarge it less."
        )
    return pixels


def model_of(wishes: Wishes) -> str:
    return wishes.model or MODELS[0]


def read(path: Path, name: str, wishes: Wishes) -> LoadedImage:
    """The decoded picture, or its first frame.

    Raises:
        Refused: as `check`, and for a damaged picture, or a cropped face that is not square.
    """
    check(path, name, wishes)
    with _refusing(f"{name} is damaged. Do you have another copy?", OSError, ValueError):
        loaded = next(iter(_frames(path, name)))
    height, width = loaded.pixels.shape[1:]
    if wishes.aligned and height != width:
        raise Refused(f"A face that is already cropped must be square; {name} has {width} × {height} pixels.")
    return loaded


@contextlib.contextmanager
def _refusing(message: str, *kinds: type[Exception]) -> Iterator[None]:
    """Refuses a picture that makes the package raise one of some kinds of errors, unless it is not to blame."""
    try:
        yield
    except Refused:  # which is a `ValueError` as well
        raise
    except kinds as error:
        if fault_of(error) is Fault.ENVIRONMENT:
            raise
        raise Refused(message) from error


def _frames(path: Path, name: str) -> Frames:
    try:
        return pipe.image_processor.load_frames(path)
    except ValueError as error:
        raise Refused(f"{name} has too many frames or pages for us. Send fewer of them.") from error


def upright(path: Path, name: str) -> Image.Image:
    """The picture, turned as it is meant to be seen."""
    loaded = read(path, name, Wishes(enlarge=1))
    return pipe.image_processor.to_output(loaded.pixels, loaded)


def find_faces(path: Path, name: str) -> list[tuple[float, float, float, float]]:
    """The boxes of a picture's faces, in px."""
    loaded = read(path, name, Wishes(enlarge=1))
    found = _run(loaded, Wishes(enlarge=1, background=False, faces=()), None, Progress())
    return [face.box for face in found.faces[0]]


def first_view(path: Path) -> tuple[Path, Path] | None:
    """Before and after of an example, to show before anything is uploaded; not where a GPU is lent for requests only.

    Gradio neither copies nor deletes it.
    """
    if ZERO_GPU:
        return None
    folder = new_folder()
    gr.set_static_paths([folder])
    return enhance(path, path.name, Wishes(), folder, folder / "stop").sides


def enhance(
    path: Path,
    name: str,
    wishes: Wishes,
    folder: Path,
    stop: Path,
    sides: bool = True,
    progress: Progress = Progress(),
) -> Result:
    """Enhances one picture, and writes what the visitor gets; of an animation, all frames, and the first one's faces.

    Args:
        path, name: the picture, and what the visitor calls it.
        folder: where to write; empty.
        stop: a file; once it exists, the work stops at the next step.
        sides: whether to write both sides of the slider.

    Raises:
        Refused, Stopped
    """
    start = time.monotonic()
    loaded = read(path, name, wishes)
    file, format = _target(loaded, folder, name, wishes)
    processor, frames = pipe.image_processor, [loaded]
    if processor.holds_frames(file, loaded.info, format):
        frames = _frames(path, name)
    if len(frames) > 1 and wishes.faces is not None:
        raise Refused(f"{name} has {len(frames)} frames, each with other faces. Please go back to all faces.")
    first = None
    with processor.frames_writer(file, format, provenance=line(_said(wishes), _settings(wishes))) as writer:
        for index, frame in enumerate(frames):
            output = _run(frame, wishes, stop, replace(progress, frame=index, frames=len(frames)))
            writer.add(output.images[0], frame.info)
            first = first or output
        progress(1.0, "Writing the file")
    result, faces = first.images[0], [_describe(face, wishes) for face in first.faces[0]]
    size, both, pairs = size_of(result), None, []
    if sides:
        profile = None if loaded.info.grey else loaded.info.icc_profile
        before = pipe.image_processor.to_output(loaded.pixels, loaded)
        result = to_8_bits(result) if isinstance(result, np.ndarray) else result
        both = _write_sides(before, result, folder, profile)
        pairs = [_pair(face.box, before, result, profile) for face in faces]
    made = Result(file, size, faces, both, pairs, time.monotonic() - start)
    megapixels = len(frames) * loaded.pixels[0].numel() / 1e6
    Pace.learn(megapixels, wishes, len(frames) * made.enhanced, made.seconds)
    return made


@GPU
def _run(loaded: LoadedImage, wishes: Wishes, stop: Path | None, progress: Progress) -> FaceEnhanceOutput:
    began: dict[str, float] = {}
    reached = 0.0

    def on_step(stage: str, done: int, total: int) -> None:
        nonlocal reached
        if stop is not None and stop.exists():
            raise Stopped
        if total == 0:
            return
        first, last, words = STAGES[stage]
        passed = time.monotonic() - began.setdefault(stage, time.monotonic())
        words = words.format(min(done + 1, total), total)
        if done and stage == "super-resolving" and (left := passed / done * (total - done)) >= 1:
            words += f", about {duration(left)} left"
        reached = max(reached, first + (last - first) * done / total)  # aligned faces are upscaled last
        progress(reached, words)

    only = None if wishes.faces is None else [wishes.faces]
    try:
        chosen = pipes[model_of(wishes)]
        usual = {"output_type": "deep", "face_pictures": False}
        return chosen(loaded, only_faces=only, callback=on_step, **usual, **_settings(wishes), **STEPS)
    except FaceChoiceError as error:
        raise Refused("That face is not in the picture. Please choose again.") from error
    except (MemoryError, RuntimeError) as error:
        if not short_of_memory(error):
            raise
        raise Refused("The picture is too large for this machine. Make it smaller, or enlarge it less.") from error


def _said(wishes: Wishes) -> str | None:
    """The model, as the metadata name it."""
    return None if model_of(wishes) == BUNDLED else model_of(wishes)


def _settings(wishes: Wishes) -> dict[str, Any]:
    """As keyword arguments of the pipeline's call."""
    return {
        "upscale": wishes.enlarge,
        "strength": wishes.strength,
        "aligned": wishes.aligned,
        "restore_background": wishes.background,
        "max_face_size": float("inf") if wishes.anyway else None,
        "fidelity": wishes.fidelity,
    }


def _target(loaded: LoadedImage, folder: Path, name: str, wishes: Wishes) -> tuple[Path, str]:
    """Where to write the result: under its name, in the picture's format if that can hold it, else in PNG."""
    format = kept_format(loaded.info)
    try:
        pipe.image_processor.check(name, result_size(pipe, loaded, wishes.enlarge, wishes.aligned), format=format)
    except ValueError:
        format = "PNG"
    folder = folder / "picture"
    folder.mkdir()
    path = folder / strip_invalid_filename_characters(Path(name).name or "picture")
    if Image.registered_extensions().get(path.suffix.lower()) != format:
        path = path.with_suffix(suffix_of(format))
    return path, format


def _write_sides(before: Image.Image, result: Image.Image, folder: Path, profile: bytes | None) -> tuple[Path, Path]:
    after = preview(result, LARGEST)
    before = preview(before, LARGEST).resize(after.size, Image.Resampling.BICUBIC)
    format = "JPEG" if max(after.size) < 65500 else "PNG"
    paths = folder / f"before{suffix_of(format)}", folder / f"after{suffix_of(format)}"
    for image, path in zip((before, after), paths, strict=True):
        image.save(path, format, quality=92, icc_profile=profile)
    return paths


def _describe(face: EnhancedFace, wishes: Wishes) -> Face:
    plain = face.reason and REASONS.get(face.reason, "Left alone.")
    if plain is None and wishes.strength == 0:
        plain = AT_STRENGTH_0
    box = tuple(round(edge, 1) for edge in face.box)
    likeness = None if face.identity_distance is None else in_words(face.identity_distance)
    if face.held_back:
        likeness += ", held back so that it stays so"
    return Face(box, round(face.score, 3), plain, likeness, face.reason == Reason.SHARP_ENOUGH)


def _pair(box: tuple[float, ...], before: Image.Image, result: Image.Image, profile: bytes | None) -> tuple[str, str]:
    """A face and what is around it, before and after, in px of the result."""
    x1, y1, x2, y2 = box
    half, x, y = AROUND * max(x2 - x1, y2 - y1), (x1 + x2) / 2, (y1 + y2) / 2
    half = min(half, before.width / 2, before.height / 2)
    x, y = min(max(x, half), before.width - half), min(max(y, half), before.height - half)
    window = [round(edge) for edge in (x - half, y - half, x + half, y + half)]
    factor = result.width / before.width
    after = preview(result.crop([round(edge * factor) for edge in window]), LARGEST_PAIR)
    before = preview(before.crop(window), LARGEST_PAIR).resize(after.size, Image.Resampling.BICUBIC)
    return data_url(before, profile=profile), data_url(after, profile=profile)


def as_record(face: Face) -> dict:
    """What the API says about a face."""
    return {"box": list(face.box), "score": face.score, "left_alone": face.left_alone, "likeness": face.likeness}
