"""Who is to blame when the work on a picture fails: the picture, what is around it, or the program.

The environment is known by definite signs: the operating system gives an error a number, or memory is short. It may
be well again in a moment, and until it is the next picture fails as well: the work waits or stops, and no picture is
blamed. All else that reading, decoding or processing one picture raises is a fault of that picture, whatever its class
is, for libraries raise anything on a damaged file: it is recorded, and the others go on. So do they after a fault of
the program, which is what is left: an error that is none of those that the package promises to raise.
"""

import contextlib
import errno
import re
import traceback
from collections.abc import Iterator
from enum import StrEnum, auto
from pathlib import Path

from hf_faceenh.errors import one_line

# Numbers that a damaged file can bring about: a decoder seeks to where the file says, or has a name too long.
OF_A_FILE = {errno.EINVAL, errno.EOVERFLOW, errno.EDOM, errno.ERANGE, errno.EILSEQ, errno.ENAMETOOLONG}
# The same kinds of errors where somebody has left the number out.
OF_THE_SYSTEM = (FileNotFoundError, PermissionError, BlockingIOError, InterruptedError, ConnectionError, TimeoutError)
SHORT = re.compile(r"out of memory|(can't|cannot|could not|unable to) allocate|(not enough|insufficient) memory", re.I)


class Fault(StrEnum):
    PICTURE = auto()
    ENVIRONMENT = auto()
    PROGRAM = auto()


def fault_of(error: BaseException) -> Fault:
    """Whose fault an error is that the work on one picture has raised."""
    if short_of_memory(error) or any(map(_from_the_system, _causes(error))):
        return Fault.ENVIRONMENT
    return Fault.PICTURE if isinstance(error, (ValueError, OSError)) else Fault.PROGRAM


def short_of_memory(error: BaseException) -> bool:
    """Whether memory was short, of the machine or of a GPU. PyTorch and OpenCV have no class of errors for that."""
    return any(
        isinstance(cause, MemoryError) or (not isinstance(cause, ValueError) and SHORT.search(str(cause)))
        for cause in _causes(error)
    )


def _from_the_system(error: BaseException) -> bool:
    number = error.errno if isinstance(error, OSError) else None
    return isinstance(error, OF_THE_SYSTEM) or (isinstance(number, int) and number not in OF_A_FILE)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__


def described(error: BaseException) -> str:
    """What a record says of an error: its line; for a fault of the program also its class and where it came from."""
    if fault_of(error) is not Fault.PROGRAM:
        return one_line(error)
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
    return f"a fault of the program, please report it: {type(error).__name__}: {one_line(error)} ({places})"


@contextlib.contextmanager
def blamed(picture: str, but: type[Exception] | None = None) -> Iterator[None]:
    """Makes what a library raises on a damaged file an `OSError` of one line; faults of the environment stay.

    Args:
        picture: which it is.
        but: an error of exactly this class stays too, because the package raises it itself.
    """
    try:
        yield
    except Exception as error:
        if fault_of(error) is Fault.ENVIRONMENT or type(error) is but:
            raise
        raise OSError(f"{picture} is damaged: {one_line(error)}. Get an undamaged copy of the picture.") from error


@contextlib.contextmanager
def optional() -> Iterator[None]:
    """Goes on after the block, whatever a damaged part of a file makes it raise that the picture can do without."""
    try:
        yield
    except Exception as error:
        if fault_of(error) is Fault.ENVIRONMENT:
            raise
