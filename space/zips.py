"""Opening zips from strangers: the list of what a zip holds is bounded before it is parsed.

A zip of 200 MB can list four million empty files, and `zipfile` would make an object of each. The number of entries
that a zip states may be false. But `zipfile` reads the list in one piece and parses nothing beyond it: the size of
that piece is what we limit.
"""

import contextlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

ENTRIES = 1000  # in one zip, pictures or not
LIST = 256 * 2**10  # bytes of the list of entries; each takes 46 and its name


class TooManyEntries(ValueError):
    """The zip lists more entries than we look at."""


class _Bounded(io.BufferedReader):
    """A file that refuses to read large pieces until `bounded` is unset."""

    bounded = True

    def read(self, size: int | None = -1) -> bytes:
        if self.bounded and size is not None and size > LIST:
            raise TooManyEntries
        return super().read(size)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip, open for reading.

    Raises:
        TooManyEntries: without having parsed more than `LIST` bytes of their list.
        OSError, ValueError, zipfile.BadZipFile: for what is no zip.
    """
    with _Bounded(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
        if len(archive.infolist()) > ENTRIES:
            raise TooManyEntries
        file.bounded = False  # the files themselves may be large
        yield archive
