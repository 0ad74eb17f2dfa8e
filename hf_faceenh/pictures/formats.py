"""What can be said of a picture's file before it is opened.

The command line plans its work with this, so nothing heavy is imported here.
"""

from pathlib import Path

# The files of a folder that are taken for pictures.
SUFFIXES = ".avif .bmp .gif .jfif .jp2 .jpeg .jpg .pgm .png .ppm .tif .tiff .webp".split()

# Pillow's names of the formats that are opened. It knows many more, and some of its readers start other programs.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "MPO", "AVIF", "HEIF", "JPEG2000", "PPM")

MAX_PIXELS = 100_000_000  # of a picture that is decoded


def check_exists(path: Path) -> None:
    """
    Raises:
        FileNotFoundError: where there is nothing at `path`.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}. Check the path; a URL starts with http:// or https://.")
