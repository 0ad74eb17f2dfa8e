"""What a command has to do: one job for each picture. How jobs are planned, and checked before work begins.

Nothing here imports torch, so that a mistake is answered at once.
"""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_faceenh import streams
from hf_faceenh.pictures import heic
from hf_faceenh.pictures.formats import check_exists
from hf_faceenh.sources import STREAM, Named

LONGEST = 255  # bytes of a file's name, on nearly all file systems


@dataclass(frozen=True, slots=True)
class Job:
    """One picture and the files to write for it.

    Args:
        picture: the input: a file, its content, a URL, or "-", the standard input.
        result: the output; `None` for the standard output.
        compare: the before/after picture, if wanted.
        faces: what the paths of the faces' crops begin with, if wanted.
        keep_format: whether the format is the input's, or what the name of the output says.
    """

    picture: Path | bytes | str
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
            OSError: where the picture is missing or cannot be read here, a file exists that must not be replaced, or a
                name would be too long.
        """
        crop = self.faces and self.faces.with_name(f"{self.faces.name}_000_enhanced.png")
        for path in filter(None, (self.result, self.compare, crop)):
            if len(os.fsencode(path.name)) > LONGEST:
                raise OSError(f"The name {path.name} has more than {LONGEST} bytes. Rename {self.picture}.")
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
