"""What a command has to do: one job for each picture. How jobs are planned, and how one is done.

Planning and checking do not import torch, so that a mistake is answered at once.
"""

import contextlib
import glob
import itertools
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_faceenh import streams
from hf_faceenh.pictures import heic
from hf_faceenh.pictures.formats import check_exists
from hf_faceenh.sources import STREAM, Named

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from hf_faceenh.faces import EnhancedFace
    from hf_faceenh.pictures import LoadedImage
    from hf_faceenh.pipeline import FaceEnhancePipeline


@dataclass(frozen=True, slots=True)
class Job:
    """One picture and the files to write for it.

    Args:
        picture: the input: a file, a URL, or "-", the standard input.
        result: the output; `None` for the standard output.
        compare: the before/after picture, if wanted.
        faces: what the paths of the faces' crops begin with, if wanted.
        keep_format: whether the format is the input's, or what the name of the output says.
    """

    picture: Path | str
    result: Path | None
    compare: Path | None
    faces: Path | None
    keep_format: bool

    def existing(self) -> list[Path]:
        """The files that the job would replace."""
        crops = self.faces.parent.glob(f"{glob.escape(self.faces.name)}_[0-9]*.png") if self.faces else ()
        return [path for path in (self.result, self.compare, *crops) if path and path.exists()]

    def is_done(self) -> bool:
        """Whether there is nothing left to write. The crops of all faces are written before the result: where it is
        there and some crop, all are. Without any crop, a run without `faces` may have made the result."""
        existing = self.existing()
        wanted = [path for path in (self.result, self.compare) if path]
        return self.result in existing and set(wanted) <= set(existing) and (not self.faces or existing != wanted)

    def check(self, overwrite: bool) -> None:
        """Checks what can be checked without opening the picture.

        Raises:
            OSError: where the picture is missing or cannot be read here, or a file exists that must not be replaced.
        """
        if not overwrite and (existing := self.existing()):
            raise FileExistsError(f"{existing[0]} exists already. Pass --overwrite, or choose another output.")
        if self.result is None:
            streams.check_output()
        if self.picture == STREAM:
            streams.check_input()
        if isinstance(self.picture, Path):
            check_exists(self.picture)
            heic.check(self.picture)


def refusals(jobs: Sequence[Job], overwrite: bool) -> dict[Job, OSError]:
    """Why each of the jobs cannot be done; `{}` if one can, and so a pipeline is needed."""
    found = {}
    for job in jobs:
        try:
            job.check(overwrite)
        except OSError as error:
            found[job] = error
        else:
            return {}
    return found


def plan(
    pictures: Sequence[Named], output: str | None = None, compare: bool = False, save_faces: bool = False
) -> list[Job]:
    """One job for each picture.

    Args:
        pictures: what `sources.find` found.
        output: a file, a folder, or "-", the standard output; by default a file beside each picture, and the standard
            output for what comes from the standard input.
        compare, save_faces: what else to write.

    Raises:
        ValueError: where the pictures do not fit `output`, or two of them would be written to one file.
    """
    streamed = any(named.picture == STREAM for named in pictures)
    if output == STREAM or (output is None and streamed):
        return [_stream_job(pictures, compare or save_faces)]
    out = None if output is None else Path(output)
    to_file = out is not None and not out.is_dir() and _is_picture_file(out.suffix)
    if to_file and len(pictures) > 1:
        raise ValueError(f"The output {out} is one picture, but there are {len(pictures)} to enhance. Give a folder.")
    if streamed and not to_file:
        raise ValueError("A picture from the standard input has no name: give a file with -o, or - for the output.")
    if out is not None and not to_file and out.exists() and not out.is_dir():
        raise ValueError(f"The output {out} exists and is neither a picture nor a folder. Choose another.")
    jobs, owners = [], {}
    for picture, below, beside in pictures:
        result = beside if out is None else out if to_file else out / below
        compared = result.with_stem(f"{result.stem}_compare") if compare else None
        faces = result.parent / "faces" / f"{result.stem}_face" if save_faces else None
        for target in filter(None, (result, compared, faces)):
            if (owner := owners.setdefault(target, picture)) != picture:
                raise ValueError(f"{owner} and {picture} would both be written to {target}. Rename one of them.")
        jobs.append(Job(picture, result, compared, faces, keep_format=not to_file))
    return jobs


def _stream_job(pictures: Sequence[Named], more: bool) -> Job:
    if len(pictures) > 1:
        raise ValueError(f"The standard output takes one picture, but there are {len(pictures)}. Give a folder.")
    if more:
        raise ValueError("--compare and --save-faces write files beside the result: name it with -o FILE.")
    return Job(pictures[0].picture, None, None, None, keep_format=True)


def _is_picture_file(suffix: str) -> bool:
    """Whether Pillow writes pictures into files with this ending; `False` where it does not know it.

    Raises:
        ValueError: where it only reads them.
    """
    if not suffix:
        return False
    from PIL import Image

    if suffix.lower() in heic.SUFFIXES:
        heic.check(Path(f"picture{suffix}"))
        heic.register()
    Image.preinit()  # the common formats; all others take a while
    if suffix.lower() not in Image.EXTENSION:
        Image.init()
    format = Image.EXTENSION.get(suffix.lower())
    if format is not None and format not in Image.SAVE:
        raise ValueError(f"Pictures can be read from {suffix} files, not written to. Choose .jpg, .png or .webp.")
    return format is not None


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
        ValueError, TypeError, OSError: for a missing or broken picture, or files that exist already.
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
                (result,), (found,) = pipe(frame, output_type="deep", return_dict=False, **options)
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
