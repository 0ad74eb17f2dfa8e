"""How one job is done: a picture, with all its frames, from its file to those of the result."""

import contextlib
import itertools
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_faceenh import streams
from hf_faceenh.planning import Job
from hf_faceenh.sources import STREAM

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from hf_faceenh.faces import EnhancedFace
    from hf_faceenh.pictures import LoadedImage
    from hf_faceenh.pipeline import FaceEnhancePipeline


def enhance_one(
    pipe: "FaceEnhancePipeline",
    job: Job,
    options: dict[str, Any],
    saving: dict[str, Any],
    overwrite: bool,
    keep: bool = False,
) -> dict[str, Any]:
    """Does one job; returns what `--json` says about the result.

    Args:
        pipe: to enhance with.
        job: what to do.
        options: keyword arguments of the pipeline's call.
        saving: those of `FaceImageProcessor.save`.
        overwrite: replace files that exist.
        keep: leave files that exist as they are, and write only those that are missing.

    Raises:
        ValueError, OSError: for a missing or broken picture, or files that exist already. `fault_of` tells from these,
            and from all else, who is to blame.
    """
    start = time.perf_counter()
    job.check(overwrite or keep)
    kept = set(job.existing()) if keep else set()
    processor = pipe.image_processor
    frames = processor.load_frames(streams.read_input() if job.picture == STREAM else job.picture)
    reading = iter(frames)
    first = next(reading)
    format = first.info.format if job.keep_format else None
    _check_size(pipe, job, first, options, format)
    sizes, faces, remarks = [], [], []
    with contextlib.ExitStack() as stack:
        path = job.result or stack.enter_context(streams.output())
        path.parent.mkdir(parents=True, exist_ok=True)
        # The last that is entered is the first that is written: the result.
        writers = {
            target: stack.enter_context(processor.frames_writer(target, format, **saving))
            for target in (job.compare, path)
            if target and target not in kept
        }
        if len(frames) > 1 and not processor.holds_frames(path, first.info, format):
            remarks.append(f"only the first of {len(frames)} frames is written; another format holds all of them")
            reading = iter(())
        for index, frame in enumerate(itertools.chain([first], reading)):
            _check_size(pipe, job, frame, options, format)
            with _frame_shown(pipe, index, len(frames)):
                made = pipe(frame, output_type="deep", face_pictures=bool(job.faces), return_dict=False, **options)
            (result,), (found,) = made
            if job.faces:
                number = f"_{index}" if len(frames) > 1 else ""
                save_faces(pipe, found, job.faces.with_name(job.faces.name + number), kept)
            if path in writers:
                writers[path].add(result, frame.info)
            if job.compare in writers:
                writers[job.compare].add(before_after(pipe, frame, result), frame.info)
            sizes.append(size_of(result))
            faces.append([described(face) for face in found])
    record = {"size": sizes[0], "seconds": round(time.perf_counter() - start, 3), "faces": faces[0]}
    if len(faces) > 1:
        record["frames"] = faces
    remarks += filter(None, [frames.remark])
    return record | ({"remark": "; ".join(remarks)} if remarks else {})


@contextlib.contextmanager
def _frame_shown(pipe: "FaceEnhancePipeline", index: int, count: int) -> Iterator[None]:
    """Says beside the progress bar which frame it is about."""
    config = dict(getattr(pipe, "_progress_bar_config", {}))
    if count > 1:
        pipe.set_progress_bar_config(**config | {"desc": f"frame {index + 1} of {count}", "leave": False})
    try:
        yield
    finally:
        pipe.set_progress_bar_config(**config)


def _check_size(
    pipe: "FaceEnhancePipeline", job: Job, frame: "LoadedImage", options: dict[str, Any], format: str | None
) -> None:
    width, height = result_size(pipe, frame, options["upscale"], options["aligned"])
    for path, columns in ((job.result or Path("picture"), 1), (job.compare, 2)):
        if path:
            pipe.image_processor.check(path, (columns * width, height), frame.info, format)


def result_size(pipe: "FaceEnhancePipeline", loaded: "LoadedImage", upscale: int, aligned: bool) -> tuple[int, int]:
    """Width and height of what the pipeline will make; of an aligned crop, which may be left alone, at most."""
    width, height = loaded.info.size
    if aligned:
        width = height = max(width, pipe.enhancer.config.sample_size)
    return width * upscale, height * upscale


def size_of(result: "Image.Image | np.ndarray") -> tuple[int, int]:
    """Width and height."""
    return result.shape[1::-1] if hasattr(result, "shape") else result.size


def before_after(
    pipe: "FaceEnhancePipeline", loaded: "LoadedImage", result: "Image.Image | np.ndarray"
) -> "Image.Image | np.ndarray":
    """The input, upscaled with bicubic interpolation, left of the result."""
    import numpy as np
    import torch.nn.functional as F
    from PIL import Image

    from hf_faceenh.pictures.alpha import continued

    width, height = size_of(result)
    pixels = continued(loaded.pixels, loaded.alpha)
    upscaled = F.interpolate(pixels[None], size=(height, width), mode="bicubic")[0]
    before = pipe.image_processor.to_output(upscaled, loaded, "deep")
    if isinstance(result, np.ndarray):
        return np.hstack([before, result])
    canvas = Image.new(result.mode, (2 * width, height))
    canvas.paste(before, (0, 0))
    canvas.paste(result, (width, 0))
    return canvas


def save_faces(
    pipe: "FaceEnhancePipeline", faces: list["EnhancedFace"], beginning: Path, kept: Collection[Path] = ()
) -> None:
    """The crops of all faces, before and after; `beginning` is what their paths begin with. Those in `kept` are there
    already."""
    for index, face in enumerate(faces):
        beginning.parent.mkdir(exist_ok=True)
        for image, ending in ((face.crop, ""), (face.enhanced, "_enhanced")):
            path = beginning.with_name(f"{beginning.name}_{index}{ending}.png")
            if image is not None and path not in kept:
                pipe.image_processor.save(image, path)


def described(face: "EnhancedFace") -> dict[str, Any]:
    """A face as a JSON object; px of the photograph."""
    from hf_faceenh.likeness import in_words

    return {
        "box": [round(x, 2) for x in face.box],
        "landmarks": None if face.landmarks is None else face.landmarks.astype(float).round(2).tolist(),
        "score": round(face.score, 4),
        "size": round(face.size, 2),
        "detail": None if face.detail is None else round(face.detail, 2),
        "left_alone": face.left_alone,
        "strength": round(face.strength, 4),
        "held_back": face.held_back,
        "identity_distance": None if face.identity_distance is None else round(face.identity_distance, 3),
        "likeness": None if face.identity_distance is None else in_words(face.identity_distance),
    }


def all_faces(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The faces of all frames, from what `enhance_one` returns."""
    return sum(record["frames"], []) if "frames" in record else record["faces"]


def remark(faces: list[dict[str, Any]]) -> str | None:
    """What may surprise the user about a result; `None` if nothing does."""
    if not faces:
        return "no face found; super-resolved only"
    said = []
    for key, what in (("left_alone", "left alone"), ("held_back", "held back")):
        reasons = [face[key] for face in faces if face[key]]
        more = "; …" if len(reasons) > 1 else ""
        said += [f"{len(reasons)} of {len(faces)} faces {what} ({reasons[0]}{more})"] if reasons else []
    return ", ".join(said) or None
