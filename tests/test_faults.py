"""Who is to blame: the picture, the environment, or the program."""

import errno
import os

import pytest
import torch
from PIL import UnidentifiedImageError

from hf_faceenh.faults import Fault, blamed, described, fault_of, optional, short_of_memory


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (OSError("broken data stream"), Fault.PICTURE),
        (UnidentifiedImageError("no picture"), Fault.PICTURE),
        (ValueError("too many pixels"), Fault.PICTURE),
        (OSError(errno.EINVAL, "seek"), Fault.PICTURE),
        (OSError(-2), Fault.PICTURE),  # as Pillow says of its decoders
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), Fault.ENVIRONMENT),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), Fault.ENVIRONMENT),
        (FileNotFoundError("There is no file a.jpg."), Fault.ENVIRONMENT),
        (PermissionError(errno.EACCES, "denied"), Fault.ENVIRONMENT),
        (caused(OSError("Could not write"), OSError(errno.EDQUOT, "quota")), Fault.ENVIRONMENT),
        (MemoryError(), Fault.ENVIRONMENT),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"), Fault.ENVIRONMENT),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"), Fault.ENVIRONMENT),
        (KeyError("a"), Fault.PROGRAM),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), Fault.PROGRAM),
        (AssertionError(), Fault.PROGRAM),
    ],
)
def test_whose_fault(error, fault):
    assert fault_of(error) is fault


def test_memory_is_told_from_the_rest_of_the_environment():
    assert short_of_memory(caused(OSError("Could not write"), MemoryError()))
    assert not short_of_memory(OSError(errno.ENOSPC, "No space left"))


def test_a_fault_of_the_program_says_where():
    try:
        {}["a"]
    except KeyError as error:
        said = described(error)
    assert said.startswith("a fault of the program, please report it: KeyError: 'a' (test_faults.py:")
    assert described(ValueError("one\ntwo")) == "one two"


@pytest.mark.parametrize("error", [OverflowError("inf"), AssertionError(), UnicodeError("a"), SyntaxError("b")])
def test_a_damaged_picture_is_an_oserror_of_one_line(error):
    with pytest.raises(OSError, match="^a.jpg is damaged: .*undamaged copy") as raised, blamed("a.jpg", ValueError):
        raise error
    assert fault_of(raised.value) is Fault.PICTURE
    with optional():
        raise error


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EIO, "bad sector")])
def test_the_environment_is_not_hidden(error):
    for context in (blamed("a.jpg"), optional()):
        with pytest.raises(type(error)) as raised, context:
            raise error
        assert raised.value is error
