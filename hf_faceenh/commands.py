"""What the package's command lines share: how options are spelled, the pipeline's options, one line for a mistake."""

import argparse
import contextlib
import logging
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from hf_faceenh.errors import one_line
from hf_faceenh.loading import BACKENDS
from hf_faceenh.provenance import line


class Parser(argparse.ArgumentParser):
    """Takes `--save_faces` for `--save-faces`: the training scripts spell their options with underscores, and few
    users remember which program has which."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None):
        words = list(sys.argv[1:] if args is None else args)
        end = words.index("--") if "--" in words else len(words)  # after it come names of files
        return super().parse_known_args([*map(_dashed, words[:end]), *words[end:]], namespace)


def _dashed(word: str) -> str:
    """An option with dashes between its words; its value, and everything else, as it is."""
    option = re.match(r"--\w[\w-]*", word)
    return option[0].replace("_", "-") + word[option.end() :] if option else word


def number(kind: Callable[[str], float], low: float, high: float = math.inf) -> Callable[[str], float]:
    """A type for argparse: a number in [low, high]."""

    def parse(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not in [{low}, {high}]")
        return value

    parse.__name__ = kind.__name__  # argparse names it where the text is not a number
    return parse


def add_pipeline_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that become arguments of the pipeline's call; `pipeline_options` reads them."""
    add = parser.add_argument
    add("--upscale", type=int, default=2, choices=(1, 2, 4), help="how many times larger (2)")
    add("--strength", type=number(float, 0, 1), default=1.0, help="0 keeps the old face, 1 takes the new one (1)")
    add("--aligned", action="store_true", help="the pictures are aligned square crops of one face each")
    add("--no-background", action="store_true", help="upscale what is not a face with bicubic interpolation only")
    add("--max-faces", type=number(int, 0), metavar="N", help="enhance only the N largest faces of a picture")
    add("--regions", choices=("head", "face"), default="head", help="what is taken of an enhanced face (head)")
    add("--min-face-size", type=number(float, 0), metavar="PX", help="leave faces with a smaller crop alone")
    add(
        "--identity-limit",
        type=number(float, 0),
        metavar="D",
        help="how different from the photograph's a face recognizer may find an enhanced face: one that is too "
        "different is held back, or left alone; inf enhances all",
    )
    add(
        "--max-face-size",
        type=number(float, 0),
        metavar="PX",
        help="leave faces with a larger crop alone; inf: none (by default the detail decides that a face has)",
    )
    add("--grain", type=number(float, 0, 1), help="how much of its own grain the picture has (faces like the rest)")
    add(
        "--denoise",
        type=number(float, 0, 1),
        help="how much noise goes where there is no face: 0 none, 1 all; by default the more the noisier",
    )
    add(
        "--fidelity",
        type=number(float, 0, 1),
        help="how much an enhancer that has this dial (CodeFormer) keeps to the old face: 0 sharpest, 1 nearest",
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Adds what says which pipeline; `model_options` reads it."""
    add = parser.add_argument
    model = (
        "a pipeline, a folder with one model that convert made, fast, vivid, or a name that `hf-faceenh models` lists"
    )
    add("--model", metavar="NAME_OR_FOLDER", help=model)
    super_resolver = "a folder with one, or a name that `hf-faceenh models` lists, in place of the pipeline's own"
    add("--super-resolver", metavar="NAME_OR_FOLDER", help=super_resolver)
    add_license_option(parser)


def add_backend_option(parser: argparse.ArgumentParser) -> None:
    backend = "what computes the networks: torch, or onnx for a folder of export --onnx, on a CPU (torch)"
    parser.add_argument("--backend", default="torch", choices=BACKENDS, help=backend)


def add_license_option(parser: argparse.ArgumentParser) -> None:
    accept = "you accept the licence of published weights that are not for any use"
    parser.add_argument("--accept-license", action="store_true", help=accept)


def model_options(args: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of `load_pipeline` that the command line gives."""
    return {name: getattr(args, name) for name in ("model", "super_resolver", "accept_license")}


def pipeline_options(args: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of the pipeline's call that the command line gives."""
    options = {name: getattr(args, name) for name in ("upscale", "strength", "aligned", "max_faces", "regions")}
    options["restore_background"] = not args.no_background
    for name in ("min_face_size", "max_face_size", "identity_limit", "grain", "denoise", "fidelity"):
        if getattr(args, name) is not None:
            options[name] = getattr(args, name)
    return options


def add_saving_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that become arguments of `FaceImageProcessor.save`; `saving_options` reads them."""
    add = parser.add_argument
    quality = "of JPEG, WebP and AVIF, 1 to 100 (95, and JPEG no coarser than the input)"
    add("--quality", type=number(int, 1, 100), metavar="N", help=quality)
    unsaid = "do not note in the metadata that the picture was enhanced, by what and with which settings"
    add("--no-provenance", action="store_true", help=unsaid)


def saving_options(args: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of `save` that the command line gives."""
    provenance = None if args.no_provenance else line(args.model, pipeline_options(args))
    return {"quality": args.quality, "provenance": provenance}


def quietly(command: Callable[[], int]) -> int:
    """Runs a command and returns its exit status; an interrupt, or a mistake of the user's, becomes one line."""
    logging.disable(logging.ERROR)  # the libraries' chatter; what matters is raised
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return command()
    except KeyboardInterrupt:
        print("hf-faceenh: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has closed the pipe
        with contextlib.suppress(OSError):  # or Python would say so when it flushes the rest at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as a shell says of a program that SIGPIPE ended
    except (ValueError, TypeError, OSError) as error:
        print(f"hf-faceenh: {one_line(error)}", file=sys.stderr)
        return 1
    finally:
        logging.disable(logging.NOTSET)
