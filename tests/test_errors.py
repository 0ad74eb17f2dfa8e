"""One line for each mistake."""

import pytest

from hf_faceenh.errors import explained, one_line


def test_an_error_of_many_lines_becomes_one():
    assert one_line(ValueError("first\n   second\tthird")) == "first second third"
    assert one_line(KeyError()) == "KeyError"
    assert one_line(ValueError("red \x1b[31m")) == r"red \x1b[31m"
    assert one_line(ValueError("x" * 300), longest=200) == "x" * 200


def test_a_library_s_error_becomes_ours():
    with pytest.raises(OSError, match="^weights cannot be read: a b$") as raised:
        with explained("weights cannot be read", OSError):
            raise RuntimeError("a\nb")
    assert isinstance(raised.value.__cause__, RuntimeError)


def test_what_is_not_named_passes_through():
    with pytest.raises(KeyboardInterrupt), explained("weights cannot be read"):
        raise KeyboardInterrupt
