"""The standard input and output as a picture."""

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hf_faceenh.files import LARGEST_FILE


def check_input() -> None:
    """
    Raises:
        OSError: where nothing is piped in.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise OSError("No picture is piped into the standard input: cat photo.jpg | hf-faceenh enhance - -o out.jpg")


def check_output() -> None:
    """
    Raises:
        OSError: where the picture would fill a terminal.
    """
    if sys.stdout is None or sys.stdout.isatty():
        raise OSError("The standard output is a terminal. Name a file with -o, or redirect it: … -o - > out.jpg")


def read_input() -> bytes:
    """The standard input.

    Raises:
        ValueError: where it is empty, or larger than a picture can be.
    """
    data = sys.stdin.buffer.read(LARGEST_FILE + 1)
    if not data:
        raise ValueError("The standard input is empty; expected a picture.")
    if len(data) > LARGEST_FILE:
        raise ValueError(f"The standard input holds more than {LARGEST_FILE / 2**20:g} MiB. Pass a file instead.")
    return data


@contextlib.contextmanager
def output() -> Iterator[Path]:
    """A path to write a file to, which goes to the standard output when the block ends, whole or not at all.

    Raises:
        BrokenPipeError: where nobody reads it.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture"
        yield file
        sys.stdout.buffer.write(file.read_bytes())
        sys.stdout.buffer.flush()
