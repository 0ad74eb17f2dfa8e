"""HEIC, the format of telephones' photographs, which Pillow reads and writes with the help of an extra; and AVIF,
which a Pillow that is new enough reads itself.

Planning asks whether the extra is there; nothing heavy is imported before a picture is opened.
"""

import importlib.util
from functools import cache
from pathlib import Path

SUFFIXES = ".heic .heif .hif".split()
HINT = 'pip install "hf-faceenh[heic]"'

# The "major brand" in the first 12 bytes of a file (ISO/IEC 23008-12, section 10): what it is, whatever its name.
BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
AVIF_BRANDS = {b"avif", b"avis"}


def is_installed() -> bool:
    """Whether the extra is there; it is not imported."""
    return importlib.util.find_spec("pillow_heif") is not None


@cache
def register() -> None:
    """Teaches Pillow the format, where the extra is there."""
    if is_installed():
        from pillow_heif import register_heif_opener

        register_heif_opener()


def check(path: Path) -> None:
    """
    Raises:
        OSError: for a file that has the format's ending, where the extra is missing.
    """
    if path.suffix.lower() in SUFFIXES and not is_installed():
        raise OSError(f"{path}: HEIC needs an extra: {HINT}")


def lacking(start: bytes) -> str | None:
    """What must be installed to read the file whose first 12 bytes these are; `None` where it is not that."""
    from PIL import features

    brand = start[8:12] if start[4:8] == b"ftyp" else b""
    if brand in BRANDS and not is_installed():
        return f"HEIC needs an extra: {HINT}"
    if brand in AVIF_BRANDS and not features.check("avif"):
        return f"AVIF needs Pillow 11.3: {HINT}"
    return None
