"""What a command has to do: one job for each picture. How jobs are planned, and how one is done.

Planning and checking do not import torch, so that a mistake is answered at once.
"""

import glob
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hf_faceenh.pictures import SUFFIXES
from hf_faceenh.pictures.formats import check_exists

if TYPE_CHECKING:
    from PIL import Image

    from hf_faceenh.faces import EnhancedFace
    from hf_faceenh.pictures import LoadedImage
    from hf_faceenh.pipeline import FaceEnhancePipeline


@dataclass(frozen=True, slots=True)
class Job:
    """One picture and the files to write for it.

    Args:
        picture: the input, a file or URL.
        result: the output.
        compare: the before/after picture, if wanted.
        faces: what the paths of the faces' crops begin with, if wanted.
        keep_format: whether the format is the input's, or what the name of the output says.
    """

    picture: Path | str
    result: Path
    compare: Path | None
    faces: Path | None
    keep_format: bool

    def existing(self) -> list[Path]:
        """The files that the job would replace."""
        crops = self.faces.parent.glob(f"{glob.escape(self.faces.name)}_[0-9]*.png") if self.faces else ()
        return [path for path in (self.result, self.compare, *crops) if path and path.exists()]

    def check(self, overwrite: bool) -> None:
        """Checks what can be checked without opening the picture.

        Raises:
            OSError: where the picture is missing, or a file exists that must not be replaced.
        """
        if not overwrite and (existing := self.existing()):
            raise FileExistsError(f"{existing[0]} exists already. Pass --overwrite, or choose another output.")
        if isinstance(self.picture, Path):
            check_exists(self.picture)


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


def expand(source: str, output: Path) -> list[tuple[Path | str, Path]]:
    """The pictures that a file, URL, folder or glob stands for, each with its path below `output`.

    A folder is walked; hidden files are skipped, and so is `output` where it lies inside the folder. A missing
    file is kept, to be reported when its turn comes.
    """
    if source.lower().startswith(("http://", "https://")):
        return [(source, Path(Path(urlsplit(source).path).name or "picture"))]
    path = Path(source)
    if not path.is_dir():
        matches = [] if path.exists() else map(Path, sorted(glob.glob(source, recursive=True)))
        return [(file, Path(file.name)) for file in [match for match in matches if match.is_file()] or [path]]
    earlier = {output.resolve()} - {path.resolve()}
    found = []
    for file in sorted(path.rglob("*")):
        below = file.relative_to(path)
        hidden = any(part.startswith(".") for part in below.parts)
        if file.suffix.lower() in SUFFIXES and file.is_file() and not hidden:
            found += [] if earlier & {file.resolve(), *file.resolve().parents} else [(file, below)]
    if not found:
        raise ValueError(f"There is no picture in the folder {path}; expected {' '.join(SUFFIXES)}.")
    return found


def plan(sources: list[str], output: str, compare: bool = False, save_faces: bool = False) -> list[Job]:
    """One job for each picture.

    Raises:
        ValueError: where the pictures do not fit `output`, or two of them would be written to one file.
    """
    out = Path(output)
    to_file = not out.is_dir() and _is_picture_file(out.suffix)
    found = list(dict.fromkeys(pair for source in sources for pair in expand(source, out)))
    if to_file and len(found) > 1:
        raise ValueError(f"The output {out} is one picture, but there are {len(found)} to enhance. Give a folder.")
    if not to_file and out.exists() and not out.is_dir():
        raise ValueError(f"The output {out} exists and is neither a picture nor a folder. Choose another.")
    jobs, owners = [], {}
    for picture, below in found:
        result = out if to_file else out / below
        compared = result.with_stem(f"{result.stem}_compare") if compare else None
        faces = result.parent / "faces" / f"{result.stem}_face" if save_faces else None
        for target in filter(None, (result, compared, faces)):
            if (owner := owners.setdefault(target, picture)) != picture:
                raise ValueError(f"{owner} and {picture} would both be written to {target}. Rename one of them.")
        jobs.append(Job(picture, result, compared, faces, keep_format=not to_file))
    return jobs


def _is_picture_file(suffix: str) -> bool:
    """Whether Pillow writes pictures into files with this ending; `False` where it does not know it.

    Raises:
        ValueError: where it only reads them.
    """
    if not suffix:
        return False
    from PIL import Image

    Image.preinit()  # the common formats; all others take a while
    if suffix.lower() not in Image.EXTENSION:
        Image.init()
    format = Image.EXTENSION.get(suffix.lower())
    if format is not None and format not in Image.SAVE:
        raise ValueError(f"Pictures can be read from {suffix} files, not written to. Choose .jpg, .png or .webp.")
    return format is not None


def enhance_one(pipe: "FaceEnhancePipeline", job: Job, options: dict[str, Any], overwrite: bool) -> dict[str, Any]:
    """Does one job; returns what `--json` says about the result.

    Raises:
        ValueError, TypeError, OSError: for a missing or broken picture, or files that exist already.
    """
    start = time.perf_counter()
    job.check(overwrite)
    processor = pipe.image_processor
    loaded = processor.load(job.picture)
    output = pipe(loaded, **options)
    (result,), (faces,) = output.images, output.faces
    format = loaded.info.format if job.keep_format else None
    job.result.parent.mkdir(parents=True, exist_ok=True)
    processor.save(result, job.result, loaded.info, format)
    if job.faces:
        save_faces(pipe, faces, job.faces)
    if job.compare:
        processor.save(before_after(pipe, loaded, result), job.compare, loaded.info, format)
    seconds = time.perf_counter() - start
    return {"size": result.size, "seconds": round(seconds, 3), "faces": [described(face) for face in faces]}


def before_after(pipe: "FaceEnhancePipeline", loaded: "LoadedImage", result: "Image.Image") -> "Image.Image":
    """The input, upscaled with bicubic interpolation, left of the result."""
    import torch.nn.functional as F
    from PIL import Image

    width, height = result.size
    upscaled = F.interpolate(loaded.pixels[None], size=(height, width), mode="bicubic")[0]
    canvas = Image.new(result.mode, (2 * width, height))
    canvas.paste(pipe.image_processor.to_output(upscaled, loaded), (0, 0))
    canvas.paste(result, (width, 0))
    return canvas


def save_faces(pipe: "FaceEnhancePipeline", faces: list["EnhancedFace"], beginning: Path) -> None:
    """The crops of all faces, before and after; `beginning` is what their paths begin with."""
    for index, face in enumerate(faces):
        beginning.parent.mkdir(exist_ok=True)
        for image, ending in ((face.crop, ""), (face.enhanced, "_enhanced")):
            if image is not None:
                pipe.image_processor.save(image, beginning.with_name(f"{beginning.name}_{index}{ending}.png"))


def described(face: "EnhancedFace") -> dict[str, Any]:
    """A face as a JSON object; px of the photograph."""
    return {
        "box": [round(x, 2) for x in face.box],
        "landmarks": None if face.landmarks is None else face.landmarks.astype(float).round(2).tolist(),
        "score": round(face.score, 4),
        "size": round(face.size, 2),
        "detail": None if face.detail is None else round(face.detail, 2),
        "left_alone": face.left_alone,
    }


def remark(faces: list[dict[str, Any]]) -> str | None:
    """What may surprise the user about a result; `None` if nothing does."""
    if not faces:
        return "no face found; super-resolved only"
    reasons = [face["left_alone"] for face in faces if face["left_alone"]]
    more = "; …" if len(reasons) > 1 else ""
    return f"{len(reasons)} of {len(faces)} faces left alone ({reasons[0]}{more})" if reasons else None
