"""What can be said of a picture's file before it is opened.

The command line plans its work with this, so nothing heavy is imported here.
"""

import struct
from pathlib import Path

# The files of a folder that are taken for pictures.
SUFFIXES = ".avif .bmp .gif .jfif .jp2 .jpeg .jpg .pgm .png .ppm .tif .tiff .webp".split()

# What Pillow's decoders, EXIF reader and encoders raise on what they cannot handle.
DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error, RuntimeError)
DAMAGE += (AttributeError, AssertionError)

# What may go wrong with one picture without stopping the others: damage, a full disk, too little memory.
PICTURE_ERRORS = (ValueError, TypeError, OSError, RuntimeError, MemoryError)


def check_exists(path: Path) -> None:
    """
    Raises:
        FileNotFoundError: where there is nothing at `path`.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}. Check the path; a URL starts with http:// or https://.")
