"""Several pictures, or zips of pictures, into one zip."""

import contextlib
import csv
import io
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import zips
from gradio_client.utils import strip_invalid_filename_characters
from mistakes import reported
from pictures import Progress, enhance
from PIL import Image
from wishes import Refused, Stopped, Wishes

from hf_faceenh.faults import Fault, fault_of
from hf_faceenh.files import untaken

FILES = 50  # at once
MEGABYTES = 200  # at once, also unpacked

STOPPED = "Not done: you stopped."
FORMULA = ("=", "+", "-", "@", "\t", "\r")

# A picture (or its entry in a zip), its name, and the zip.
Entry = tuple[Path | zipfile.ZipInfo, str, zipfile.ZipFile | None]


def enhance_batch(
    pictures: Sequence[tuple[Path, str]], wishes: Wishes, folder: Path, stop: Path
) -> tuple[Path, list[dict]]:
    """Several pictures, or zips of pictures, into one zip; one that cannot be enhanced does not stop the others.

    When the visitor stops the work, the zip holds what is done.

    Returns:
        the zip, and for every picture `{"file", "faces", "enhanced", "seconds", "remark"}`.
    """
    unpacked = folder / "unpacked"
    unpacked.mkdir()
    jobs, records, written = unpack(pictures, unpacked), [], set()
    with zipfile.ZipFile(folder / "enhanced.zip", "x") as archive:  # stored: pictures are compressed already
        for index, (path, name) in enumerate(jobs):
            record = {"file": name, "faces": 0, "enhanced": 0, "seconds": 0.0, "remark": ""}
            own = folder / str(index)
            own.mkdir()
            try:
                below = PurePosixPath(name)
                result = enhance(path, below.name, wishes, own, stop, False, Progress(index, len(jobs)))
                archive.write(result.file, _own_name(str(below.with_name(result.file.name)), written))
                record |= {
                    "faces": len(result.faces),
                    "enhanced": result.enhanced,
                    "seconds": round(result.seconds, 1),
                }
                record["remark"] = "" if result.enhanced else "No face enhanced; the picture was sharpened only."
            except Refused as error:
                record["remark"] = error.line
            except Stopped:
                if not written:
                    raise
                records += [record | {"file": name, "remark": STOPPED} for _, name in jobs[index:]]
                break
            except Exception as error:
                if fault_of(error) is Fault.ENVIRONMENT:  # which the other pictures would meet as well
                    raise
                record["remark"] = reported(error).line
            finally:
                shutil.rmtree(own)
            records.append(record)
        archive.writestr("results.csv", _table(records))
    shutil.rmtree(unpacked)
    return folder / "enhanced.zip", records


def _table(records: Sequence[dict]) -> str:
    """The records as CSV, with a quote before a name that a spreadsheet would take for a formula (OWASP, "CSV
    injection")."""
    table = io.StringIO()
    rows = csv.DictWriter(table, records[0].keys())
    rows.writeheader()
    for record in records:
        rows.writerow({key: f"'{cell}" if str(cell).startswith(FORMULA) else cell for key, cell in record.items()})
    return table.getvalue()


def count(files: Sequence[tuple[Path, str]]) -> int:
    """How many pictures there are.

    Raises:
        Refused: for too many or too large files, none, or a zip that cannot be opened.
    """
    with contextlib.ExitStack() as archives:
        return len(_entries(files, archives))


def unpack(files: Sequence[tuple[Path, str]], folder: Path) -> list[tuple[Path, str]]:
    """The pictures, and those in zips (written into `folder`), each with a name of its own.

    Raises what `count` does.
    """
    jobs, taken = [], set()
    with contextlib.ExitStack() as archives:
        for index, (source, name, archive) in enumerate(_entries(files, archives)):
            if archive is not None:
                source = _extract(archive, source, folder / f"{index}.in")
            jobs.append((source, _own_name(name, taken)))
    return jobs


def _entries(files: Sequence[tuple[Path, str]], archives: contextlib.ExitStack) -> list[Entry]:
    if len(files) > FILES:
        raise Refused(f"These are {len(files)} files; {FILES} at once is the most.")
    found: list[Entry] = []
    for path, name in files:
        if not path.is_file():
            raise Refused("The files are no longer here, as we keep them for a short time only. Add them again.")
        if not name.lower().endswith(".zip"):
            found.append((path, name, None))
            continue
        try:
            archive = archives.enter_context(zips.opened(path))
        except zips.TooManyEntries as error:
            raise Refused(f"{name} holds too many files; {zips.ENTRIES} in a zip is the most.") from error
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise Refused(f"{name} is not a zip that can be opened.") from error
        found += [(entry, entry.filename, archive) for entry in archive.infolist() if _is_picture(entry.filename)]
    if not found:
        raise Refused("There is no picture among these files. Add pictures, or a zip of pictures.")
    if len(found) > FILES:
        raise Refused(f"These are {len(found)} pictures; {FILES} at once is the most.")
    size = sum(source.stat().st_size if archive is None else source.file_size for source, _, archive in found)
    if size > MEGABYTES * 2**20:
        raise Refused(f"Together they have {size / 2**20:.0f} MB; {MEGABYTES} MB at once is the most.")
    return found


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> Path:
    """Writes at most as much as the entry says it holds; nothing if it is damaged or behind a password."""
    data = b""
    with contextlib.suppress(Exception):  # every compression method raises its own
        data = archive.read(entry)
    path.write_bytes(data)
    return path


def _is_picture(name: str) -> bool:
    """Whether an entry of a zip is worth trying: not a folder, nothing hidden, the ending of a picture."""
    path = PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return not name.endswith("/") and not hidden and Image.registered_extensions().get(path.suffix.lower()) is not None


def _own_name(name: str, taken: set[str]) -> str:
    """`name` as a relative path that leads nowhere else, and that no other picture has."""
    parts = [strip_invalid_filename_characters(part) for part in name.replace("\\", "/").split("/")]
    return str(untaken(PurePosixPath(*[part for part in parts if part.strip(".")] or ["picture"]), taken))
