"""One line for each mistake."""

import contextlib
import unicodedata
from collections.abc import Iterator


def one_line(error: BaseException, longest: int | None = None) -> str:
    """What an error says, in one line of at most `longest` characters; the name of its class where it says nothing."""
    return plain(" ".join(str(error).split()))[:longest] or type(error).__name__


def plain(text: str) -> str:
    """A text of a stranger's, which a terminal shows and does not obey: control characters are spelled out."""
    return "".join(ascii(letter)[1:-1] if unicodedata.category(letter) == "Cc" else letter for letter in text)


@contextlib.contextmanager
def explained(
    what: str, kind: type[Exception] = ValueError, of: type[Exception] | tuple[type[Exception], ...] = Exception
) -> Iterator[None]:
    """Turns an error of a library into one of ours: "`what`: the library's reason" in one line, as a `kind`.

    For libraries that document no exceptions and raise a dozen kinds. An error that is already a `kind` is
    turned too, unless `of` leaves it out.
    """
    try:
        yield
    except of as error:
        raise kind(f"{what}: {one_line(error)}") from error
