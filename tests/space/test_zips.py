"""Zips that list too much are refused before their lists are parsed."""

import importlib.util
import struct
import zipfile
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("zips", Path(__file__).parents[2] / "space" / "zips.py")
zips = importlib.util.module_from_spec(spec)
spec.loader.exec_module(zips)


def forged(path, entries, said, zip64=False):
    """A zip that lists `entries` empty files, and says there are `said`."""
    name = b"a.jpg"
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, len(name), 0, 0, 0, 0, 0, 0) + name
    directory = entry * entries
    where = (len(directory), 0)
    end = b""
    if zip64:
        end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, said, said, *where)
        end += struct.pack("<4sLQL", b"PK\6\7", 0, len(directory), 1)
        said, where = 0xFFFF, (0xFFFFFFFF, 0xFFFFFFFF)
    path.write_bytes(directory + end + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, said, said, *where, 0))
    return path


def unparsed(*arguments, **options):
    raise AssertionError("the list was parsed")


@pytest.mark.parametrize(
    ("entries", "said", "zip64"),
    [(200_000, 200_000, True), (200_000, 1, True), (60_000, 60_000, False), (60_000, 1, False)],
)
def test_a_long_list_is_not_parsed(entries, said, zip64, tmp_path, monkeypatch):
    path = forged(tmp_path / "a.zip", entries, said, zip64)
    monkeypatch.setattr(zipfile, "ZipInfo", unparsed)
    with pytest.raises(zips.TooManyEntries), zips.opened(path):
        pass


@pytest.mark.parametrize("zip64", [False, True])
def test_a_forged_zip_of_few_entries_is_one(zip64, tmp_path):
    """So that the refusals above are for the number alone."""
    with zips.opened(forged(tmp_path / "a.zip", 3, 3, zip64)) as archive:
        assert len(archive.infolist()) == 3


def test_the_number_of_entries_is_limited_too(tmp_path):
    with pytest.raises(zips.TooManyEntries), zips.opened(forged(tmp_path / "a.zip", zips.ENTRIES + 1, 1)):
        pass


def test_a_zip_says_more_than_it_has(tmp_path):
    path = forged(tmp_path / "a.zip", 3, 65_000)
    with zips.opened(path) as archive:
        assert len(archive.infolist()) == 3


def test_large_files_are_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.comment = bytes(60_000)
        archive.writestr("a.bmp", bytes(3 * zips.LIST))
    with zips.opened(tmp_path / "a.zip") as archive:
        assert archive.read("a.bmp") == bytes(3 * zips.LIST)


def test_what_is_no_zip(tmp_path):
    (tmp_path / "a.zip").write_text("no zip")
    with pytest.raises(zipfile.BadZipFile), zips.opened(tmp_path / "a.zip"):
        pass
