"""`hf-faceenh enhance`, `convert`, `info` and `export`.

The heavy libraries are imported inside the functions that need them, so that `--help` and a mistake on the command
line are answered at once.
"""

import argparse
import contextlib
import glob
import importlib.metadata
import json
import logging
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from hf_faceenh.faces import EnhancedFace
    from hf_faceenh.image_processor import LoadedImage
    from hf_faceenh.pipeline import FaceEnhancePipeline

# What is taken for a picture in a folder.
SUFFIXES = ".avif .bmp .gif .jfif .jp2 .jpeg .jpg .pgm .png .ppm .tif .tiff .webp".split()
# Which component of the pipeline a single model takes the place of.
ROLES = {
    "FaceEnhancer": "enhancer",
    "GPENFaceEnhancer": "enhancer",
    "FaceDetector": "detector",
    "SegformerForSemanticSegmentation": "parser",
    "SuperResolver": "super_resolver",
}
# What may go wrong with one picture without stopping the others: damage, a full disk, too little memory.
PICTURE_ERRORS = (ValueError, TypeError, OSError, RuntimeError, MemoryError)


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


def expand(source: str, output: Path) -> list[tuple[Path | str, Path]]:
    """The pictures that a file, URL, folder or glob stands for, each with its path below `output`.

    A folder is walked; hidden files are passed over, and so is `output` where it lies inside the folder. A missing
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
    from PIL import Image

    out = Path(output)
    format = Image.registered_extensions().get(out.suffix.lower())
    to_file = format is not None and not out.is_dir()
    if to_file and format not in Image.SAVE:
        raise ValueError(f"Pictures can be read from {out.suffix} files, not written to. Choose .jpg, .png or .webp.")
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


@contextlib.contextmanager
def _loading(model: str | Path) -> Iterator[None]:
    """Makes one line of what `from_pretrained` raises: it documents nothing, and raises a dozen kinds."""
    from diffusers.utils.logging import disable_progress_bar
    from transformers.utils import logging as transformers_logging

    disable_progress_bar()  # of the loading; that of the pipeline is another
    transformers_logging.disable_progress_bar()
    try:
        yield
    except Exception as error:
        if Path(model).is_dir():
            raise OSError(f"Could not load {model}: {error}") from error
        reason = one_line(error.__cause__ or error)[:200]
        raise OSError(f"There is no folder {model}, and the Hugging Face Hub did not give it: {reason}") from error


def load_single(model: str | None, dtype: "torch.dtype | None" = None) -> dict[str, "torch.nn.Module"]:
    """A folder's one model, by its role in the pipeline (or by its class if it has none); `{}` if `model` is
    something else."""
    import torch
    import transformers

    from hf_faceenh import models

    folder = Path(model or "")
    if folder.is_file():
        raise ValueError(f"{model} is a file; expected a folder. Make one with: hf-faceenh convert {model} FOLDER")
    if model is None or (folder / "model_index.json").is_file() or not (folder / "config.json").is_file():
        return {}
    with _loading(folder):
        config = json.loads((folder / "config.json").read_text())
        name = config.get("_class_name") or config["architectures"][0]
        library = models if hasattr(models, name) else transformers
        return {ROLES.get(name, name): getattr(library, name).from_pretrained(folder, dtype=dtype or torch.float32)}


def load_pipeline(model: str | None = None, device: str = "auto", dtype: str = "float32") -> "FaceEnhancePipeline":
    """The pipeline to enhance with.

    Args:
        model: a pipeline's folder or Hub id; or a folder that holds one single model, as `convert` writes it, which
            then takes its place in the bundled pipeline. By default the bundled pipeline.
        device: "auto" (the best that there is), "cuda", "mps" or "cpu".
        dtype: "float32", "float16" or "bfloat16".

    Raises:
        ValueError, OSError: with one line that says what is wrong and what to do.
    """
    import torch

    from hf_faceenh.pipeline import FaceEnhancePipeline
    from hf_faceenh.serialization import BUNDLED

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    device = next(kind for kind in available if available[kind]) if device == "auto" else device
    if not available[device]:
        raise ValueError(f"PyTorch finds no device {device} on this machine. Use --device cpu or auto.")
    if (device, dtype) == ("cpu", "float16"):
        raise ValueError("A CPU does not compute well in float16. Use --dtype float32 or bfloat16, or a GPU.")
    single = load_single(model, getattr(torch, dtype))
    if unfit := single.keys() - set(ROLES.values()):
        raise ValueError(f"{model} holds a {unfit.pop()}; expected a pipeline, or one of {', '.join(ROLES)}.")
    source = BUNDLED if single else model or BUNDLED
    with _loading(source):
        return FaceEnhancePipeline.from_pretrained(source, dtype=getattr(torch, dtype), **single).to(device)


def add_pipeline_options(parser: argparse.ArgumentParser, joint: str) -> None:
    """What a command line can say about the pipeline's call, for `pipeline_options`; `joint` is between the words of
    an option's name: "-", or "_" as in the training scripts."""

    def add(name: str, **settings: Any) -> None:
        parser.add_argument(f"--{name.replace('_', joint)}", **settings)

    add("upscale", type=int, default=2, choices=(1, 2, 4), help="how many times larger (2)")
    add("strength", type=number(float, 0, 1), default=1.0, help="0 keeps the old face, 1 takes the new one (1)")
    add("aligned", action="store_true", help="the pictures are aligned square crops of one face each")
    add("no_background", action="store_true", help="enlarge what is no face with bicubic interpolation only")
    add("max_faces", type=number(int, 0), metavar="N", help="enhance only the N largest faces of a picture")
    add("min_face_size", type=number(float, 0), metavar="PX", help="leave faces with a smaller crop alone")


def pipeline_options(args: argparse.Namespace) -> dict[str, Any]:
    """What the command line says about the pipeline's call, as its keyword arguments."""
    options = {name: getattr(args, name) for name in ("upscale", "strength", "aligned", "max_faces")}
    options["restore_background"] = not args.no_background
    if args.min_face_size is not None:
        options["min_face_size"] = args.min_face_size
    return options


def enhance(args: argparse.Namespace) -> int:
    jobs = plan(args.pictures, args.output, args.compare, args.save_faces)
    from tqdm import tqdm

    pipe = load_pipeline(args.model, args.device, args.dtype)
    pipe.set_progress_bar_config(disable=len(jobs) > 1)
    options = pipeline_options(args)
    failed, start = 0, time.perf_counter()
    with tqdm(jobs, unit="picture", disable=len(jobs) == 1) as bar:
        for job in bar:
            record = {"input": str(job.picture), "output": str(job.result)}
            try:
                record |= enhance_one(pipe, job, options, args.overwrite)
                remark = _remark(record["faces"])
            except PICTURE_ERRORS as error:
                remark = record["error"] = one_line(error)
                failed += 1
            if remark:
                bar.write(_named(job.picture, remark), file=sys.stderr)
            if args.json:
                print(json.dumps(record), flush=True)
    written, seconds = f"{len(jobs) - failed} of {len(jobs)} pictures", time.perf_counter() - start
    print(f"{written} written to {args.output} in {seconds:.1f} s, {failed} failed", file=sys.stderr)
    return 1 if failed else 0


def enhance_one(pipe: "FaceEnhancePipeline", job: Job, options: dict[str, Any], overwrite: bool) -> dict[str, Any]:
    """Does one job; returns what `--json` says about the result.

    Raises:
        ValueError, TypeError, OSError: for a broken picture, or files that exist already.
    """
    start = time.perf_counter()
    if not overwrite and (existing := job.existing()):
        raise FileExistsError(f"{existing[0]} exists already. Pass --overwrite, or choose another output.")
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
    """The input, enlarged with bicubic interpolation, left of the result."""
    import torch.nn.functional as F
    from PIL import Image

    width, height = result.size
    enlarged = F.interpolate(loaded.pixels[None], size=(height, width), mode="bicubic")[0]
    canvas = Image.new(result.mode, (2 * width, height))
    canvas.paste(pipe.image_processor.to_output(enlarged, loaded), (0, 0))
    canvas.paste(result, (width, 0))
    return canvas


def save_faces(pipe: "FaceEnhancePipeline", faces: list["EnhancedFace"], beginning: Path) -> None:
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
        "left_alone": face.left_alone,
    }


def _remark(faces: list[dict[str, Any]]) -> str | None:
    """What the user may not expect of a result."""
    if not faces:
        return "no face found; super-resolved only"
    reasons = [face["left_alone"] for face in faces if face["left_alone"]]
    more = "; …" if len(reasons) > 1 else ""
    return f"{len(reasons)} of {len(faces)} faces left alone ({reasons[0]}{more})" if reasons else None


def convert(args: argparse.Namespace) -> int:
    from hf_faceenh.components import licence, parameters
    from hf_faceenh.convert import convert

    folder = convert(args.source, args.target)
    (model,) = load_single(folder).values()
    print(f"{folder}: {type(model).__name__}, {parameters(model)} parameters\nLicence: {licence(model)}")
    return 0


def info(args: argparse.Namespace) -> int:
    from hf_faceenh.components import component_rows

    components = load_single(args.model) or load_pipeline(args.model, "cpu").components
    rows = [("component", "class", "parameters", "GMAC", "licence"), *component_rows(components)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def export(args: argparse.Namespace) -> int:
    from hf_faceenh import hub

    repo_id = hub.full_name(args.push) if args.push else None
    results = hub.read_results(args.results) if args.results else None
    folder = hub.export(args.folder, load_pipeline(args.model, "cpu"), results, repo_id=repo_id)
    print(f"{folder}: {sum(file.stat().st_size for file in folder.rglob('*')) / 1e6:.1f} MB", flush=True)
    if repo_id:
        print(hub.push(folder, repo_id, private=args.private or None))
    return 0


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _named(picture: Path | str, remark: str) -> str:
    return f"hf-faceenh: {remark}" if str(picture) in remark else f"hf-faceenh: {picture}: {remark}"


def number(kind: Callable[[str], float], low: float, high: float = math.inf) -> Callable[[str], float]:
    """A type for argparse."""

    def parse(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not in [{low}, {high}]")
        return value

    parse.__name__ = kind.__name__  # which argparse names where the text is no number
    return parse


def _version() -> str:
    try:
        return importlib.metadata.version("hf-faceenh")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("hf-faceenh", description="Enhance the faces of photographs.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("enhance", help="enhance the faces of photographs, and super-resolve the rest")
    command.set_defaults(run=enhance)
    add = command.add_argument
    add("pictures", nargs="+", metavar="PICTURE|FOLDER|GLOB", help="a URL will do; folders are walked")
    add("-o", "--output", required=True, metavar="OUT", help="a file for one picture, or a folder, made if missing")
    add("--model", metavar="ID_OR_FOLDER", help="a pipeline, or a folder with one model that convert made")
    add_pipeline_options(command, "-")
    add("--save-faces", action="store_true", help="also write the crops of all faces, before and after, into faces/")
    add("--compare", action="store_true", help="also write a before/after picture, NAME_compare")
    add("--json", action="store_true", help="print one JSON line per picture")
    add("--device", default="auto", choices=("auto", "cuda", "mps", "cpu"))
    add("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    add("--overwrite", action="store_true", help="replace files that exist")

    command = commands.add_parser("convert", help="convert a published checkpoint into a folder for --model")
    command.set_defaults(run=convert)
    command.add_argument("source", metavar="SOURCE", help="a .pth, .safetensors, .onnx or .dat file")
    command.add_argument("target", metavar="TARGET", help="the folder to make")

    command = commands.add_parser("info", help="list components, parameters, multiply-accumulates and licences")
    command.set_defaults(run=info)
    command.add_argument("model", nargs="?", metavar="MODEL", help="as --model of enhance; the bundled one by default")

    command = commands.add_parser("export", help="write a model repository for the Hugging Face Hub, and push it")
    command.set_defaults(run=export)
    add = command.add_argument
    add("folder", metavar="DIR", help="the folder to make")
    add("--model", metavar="ID_OR_FOLDER", help="as --model of enhance; the bundled one by default")
    add("--results", metavar="FILE", help="results.json of training/evaluate.py, for the model card's figures")
    add("--push", metavar="REPO_ID", help="then upload it to this repository, which is made if missing")
    add("--private", action="store_true", help="make a private one")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    args = _parser().parse_args(argv)
    return quietly(lambda: args.run(args))


def quietly(command: Callable[[], int]) -> int:
    """Runs a command, which gives the exit status; makes one line of an interrupt and of what a user can mend."""
    logging.disable(logging.ERROR)  # the libraries' chatter: what matters they raise
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return command()
    except KeyboardInterrupt:
        print("hf-faceenh: interrupted", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError) as error:
        print(f"hf-faceenh: {one_line(error)}", file=sys.stderr)
        return 1
    finally:
        logging.disable(logging.NOTSET)


if __name__ == "__main__":
    sys.exit(main())
