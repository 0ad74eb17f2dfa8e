"""What the package's command lines share: how options are spelled, the pipeline's options, one line for a mistake."""

import argparse
import logging
import math
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from hf_faceenh.errors import one_line


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


def pipeline_options(args: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of the pipeline's call that the command line gives."""
    options = {name: getattr(args, name) for name in ("upscale", "strength", "aligned", "max_faces", "regions")}
    options["restore_background"] = not args.no_background
    if args.min_face_size is not None:
        options["min_face_size"] = args.min_face_size
    return options


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
    except (ValueError, TypeError, OSError) as error:
        print(f"hf-faceenh: {one_line(error)}", file=sys.stderr)
        return 1
    finally:
        logging.disable(logging.NOTSET)
