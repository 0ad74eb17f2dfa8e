"""What one process does: its shards, from the dataset to the output."""

import contextlib
import itertools
import json
import shutil
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import torch
from PIL import Image
from tqdm import tqdm

from hf_faceenh.batch.collection import Collection, End, Row, Shard
from hf_faceenh.batch.output import Folder, Repository
from hf_faceenh.batch.process import Process, stop_signals
from hf_faceenh.batch.shards import ShardWriter
from hf_faceenh.errors import one_line
from hf_faceenh.jobs import described, result_size
from hf_faceenh.pictures import PICTURE_ERRORS, LoadedImage
from hf_faceenh.pictures.frames import Frames
from hf_faceenh.pipeline import FaceEnhancePipeline

T, S = TypeVar("T"), TypeVar("S")

GO_ON = "Whole shards are kept: to go on, run the same command again."


class Stopped(OSError):
    """This process cannot go on; one line says why, and what to do then."""


@contextlib.contextmanager
def fatal(kind: type[Exception], what: str) -> Iterator[None]:
    """Makes `Stopped` of an error, with `what` before it."""
    try:
        yield
    except kind as error:
        raise Stopped(f"{what}: {one_line(error)} {GO_ON}") from error


def ahead(pool: Executor, function: Callable[[T], S], items: Iterable[T], limit: int) -> Iterator[S]:
    """`function` of the items, in their order, computed by `pool` up to `limit` items ahead."""
    pending: deque[Future[S]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > limit:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


class Work:
    """What one process does.

    One thread reads the dataset, `num_workers` threads decode and encode, one writes; this one computes. All of them
    keep only a few pictures ahead of the next.

    Args:
        process: which of the run's processes this is.
        pipe: to enhance with.
        options: keyword arguments of its call.
        saving: keyword arguments of `FaceImageProcessor.save`.
        collection: the pictures.
        output: gets the shards.
        format: one of `SHARDS`.
        batch_size: pictures for one call of the pipeline.
        num_workers: threads.
    """

    def __init__(
        self,
        process: Process,
        pipe: FaceEnhancePipeline,
        options: Mapping[str, Any],
        saving: Mapping[str, Any],
        collection: Collection,
        output: Folder | Repository,
        format: str,
        batch_size: int,
        num_workers: int,
    ):
        self.process, self.pipe, self.options, self.save_options = process, pipe, options, saving
        self.collection = collection
        self.output, self.format, self.batch_size, self.num_workers = output, format, batch_size, num_workers
        self.reading, self.coding, self.writing = map(ThreadPoolExecutor, (1, num_workers, 1))
        self.saving: deque[Future] = deque()  # pictures that are being encoded
        self.tasks: deque[Future] = deque()  # of the writing thread
        self.broken = False  # whether the writing thread has failed
        self.unpublished: set[Path] = set()  # folders of shards that are being written
        self.shards = self.pictures = self.faces = self.failed = 0  # what was published

    def run(self) -> int:
        """Makes this process's shards; returns the exit status."""
        start, finished = time.perf_counter(), self.output.progress()
        total = self.collection.missing(self.process.rank, self.process.world_size, finished)
        with stop_signals() as signals, tqdm(total=total, unit="picture", disable=self.process.rank > 0) as bar:
            try:
                self._make_shards(finished, bar, signals)
                while self.tasks:
                    self._settle_first()
            finally:
                for pool in (self.reading, self.coding, self.writing):
                    pool.shutdown(cancel_futures=True)
                for folder in self.unpublished:
                    shutil.rmtree(folder, ignore_errors=True)
        self.process.say(
            f"{self.pictures} pictures with {self.faces} enhanced faces written to {self.output} in {self.shards} "
            f"shards, {self.failed} failed, in {time.perf_counter() - start:.1f} s"
        )
        if signals:
            self.process.say(f"stopped by {signals[0].name}. {GO_ON}")
            return 128 + signals[0]
        return self._conclude()

    def _make_shards(self, finished: Mapping[str, Any], bar: tqdm, signals: Sequence[signal.Signals]) -> None:
        """Makes the shards, but for what the writing thread has still to do at the end."""
        events = self.collection.read(self.process.rank, self.process.world_size, finished)
        read = ahead(self.reading, self._next, itertools.repeat(events), self.batch_size)
        read = itertools.takewhile(lambda event: event is not None, read)
        writer, batch = None, []
        for event, picture in ahead(self.coding, self._decode, read, self.batch_size + self.num_workers):
            writer = writer or self._begin(event.shard)
            if isinstance(event, Row):
                batch.append((event, picture))
            if isinstance(event, End) or len(batch) == self.batch_size:
                self._enhance_batch(batch, writer)
                bar.update(len(batch))
                batch = []
            if signals:
                return
            if isinstance(event, End):
                self._later(self._finish, writer, event.last)
                writer = None

    def _next(self, events: Iterator[Row | End]) -> Row | End | None:
        with fatal(Exception, "The dataset cannot be read"):  # of a dozen libraries that `datasets` reads with
            return next(events, None)

    def _decode(self, event: Row | End) -> tuple[Row | End, LoadedImage | Frames | str | None]:
        """The event with its picture, or with what is wrong with the picture. Frames are decoded one by one, later.

        Raises:
            Stopped: where the dataset itself cannot be reached.
        """
        if isinstance(event, End):
            return event, None
        content, path = event.picture["bytes"], event.picture["path"]
        if content is None and path is None:
            return event, "The dataset has no picture here."
        try:
            if content is None and "://" in path:
                content = _fetch(path)
            frames = self.pipe.image_processor.load_frames(path if content is None else content)
            if len(frames) > 1:
                return event, frames
            (picture,) = frames
            size = result_size(self.pipe, picture, self.options["upscale"], self.options["aligned"])
            self.pipe.image_processor.check(path or "The picture", size, picture.info, _format_of(picture))
            if picture.remark:
                self.process.say(f"{event.name or f'picture {event.index}'}: {picture.remark}")
            return event, picture
        except Stopped:
            raise
        except PICTURE_ERRORS as error:
            if self.collection.root and not self.collection.root.exists():
                raise Stopped(f"The folder {self.collection.root} is gone. {GO_ON}") from error
            return event, _reason(error, event)

    def _begin(self, shard: Shard) -> ShardWriter:
        folder = self.output.staging / shard.name
        self.unpublished.add(folder)
        with fatal(OSError, f"Writing to {self.output} failed"):
            return ShardWriter(folder, shard, self.collection, self.format)

    def _enhance_batch(self, batch: Sequence[tuple[Row, LoadedImage | Frames | str]], writer: ShardWriter) -> None:
        outcomes = iter(self._enhance([picture for _, picture in batch if isinstance(picture, LoadedImage)]))
        for row, picture in batch:
            if isinstance(picture, Frames):
                self._enhance_frames(row, picture, writer)
                continue
            outcome = picture if isinstance(picture, str) else next(outcomes)
            if isinstance(outcome, str):
                self._later(writer.fail, row, outcome)
                continue
            image, faces = outcome
            format = _format_of(picture)
            file = writer.file_for(row, format)
            save = partial(self.pipe.image_processor.save, **self.save_options)
            saved = self.coding.submit(save, image, file, picture.info, format)
            self.saving.append(saved)
            if len(self.saving) > self.num_workers:
                wait([self.saving.popleft()])
            self._later(writer.add, row, file, faces, saved)

    def _enhance_frames(self, row: Row, frames: Frames, writer: ShardWriter) -> None:
        """An animation, or the pages of a file; the faces are those of the first frame."""
        processor, reading = self.pipe.image_processor, iter(frames)
        try:
            first = next(reading)
        except PICTURE_ERRORS as error:
            self._later(writer.fail, row, _reason(error, row))
            return
        format = _format_of(first)
        file, saved, faces = writer.file_for(row, format), Future(), []
        if not processor.holds_frames(file, first.info, format):
            reading = iter(())
        try:
            with processor.frames_writer(file, format, **self.save_options) as out:
                for frame in itertools.chain([first], reading):
                    (outcome,) = self._enhance([frame])
                    if isinstance(outcome, str):
                        raise ValueError(outcome)
                    out.add(outcome[0], frame.info)
                    faces.append(outcome[1])
        except PICTURE_ERRORS as error:
            saved.set_exception(error)
        else:
            saved.set_result(None)
        if frames.remark:
            self.process.say(f"{row.name or f'picture {row.index}'}: {frames.remark}")
        self._later(writer.add, row, file, next(iter(faces), []), saved)

    def _enhance(self, pictures: list[LoadedImage]) -> list[tuple[Image.Image, list[dict]] | str]:
        """For every picture the result and its faces, or what is wrong: if one fails, each is tried on its own."""
        if not pictures:
            return []
        try:
            output = self.pipe(pictures, output_type="deep", **self.options)
            faces = [[described(face) for face in of_one] for of_one in output.faces]
            return list(zip(output.images, faces, strict=True))
        except PICTURE_ERRORS as error:
            reason = one_line(error)  # not the error, which holds on to the memory of what failed
        self._check_device()
        if len(pictures) == 1:
            return [reason]
        return [outcome for picture in pictures for outcome in self._enhance([picture])]

    def _check_device(self) -> None:
        """
        Raises:
            Stopped: where the GPU has crashed, and all other pictures would fail.
        """
        if self.pipe.device.type != "cuda":
            return
        with fatal(RuntimeError, "The GPU has failed"):
            torch.cuda.empty_cache()
            torch.cuda.synchronize()

    def _later(self, function: Callable[..., None], *arguments: Any) -> None:
        """Leaves a call to the writing thread, which stays at most one shard behind."""
        self.tasks.append(self.writing.submit(self._write, function, *arguments))
        while self.tasks and (self.tasks[0].done() or len(self.tasks) > self.collection.shard_size):
            self._settle_first()

    def _write(self, function: Callable[..., None], *arguments: Any) -> None:
        if self.broken:  # by what was to be written before: the shard would lack it
            return
        try:
            function(*arguments)
        except BaseException:
            self.broken = True
            raise

    def _settle_first(self) -> None:
        with fatal(OSError, f"Writing to {self.output} failed"):
            self.tasks.popleft().result()

    def _finish(self, writer: ShardWriter, last: bool) -> None:
        made, record = writer.finish(last)
        self.output.publish(writer.shard.name, made, record)
        shutil.rmtree(writer.folder, ignore_errors=True)
        self.unpublished.discard(writer.folder)
        self.shards += 1
        self.pictures += record["pictures"]
        self.faces += record["faces"]
        self.failed += len(record["failed"])

    def _conclude(self) -> int:
        """The exit status. Only the last process to end tells of bad pictures by its status: launchers
        end all other processes when one fails."""
        progress = list_failed(self.output)
        if not self.collection.is_whole(progress):
            self.process.say("the other processes are not yet at their end. If one has failed, run the command again.")
            return 0
        shutil.rmtree(self.output.staging, ignore_errors=True)  # what killed processes may have left
        records = progress.values()
        pictures, faces = (sum(record[name] for record in records) for name in ("pictures", "faces"))
        failed = sum(len(record["failed"]) for record in records)
        listed = f" (see {self.output}/failed.jsonl)" if failed else ""
        self.process.say(f"complete: {pictures} pictures with {faces} enhanced faces, {failed} failed{listed}")
        return 1 if failed else 0


def _reason(error: Exception, row: Row) -> str:
    """What is wrong with a picture, without a path of this machine."""
    return one_line(error).replace(row.picture["path"] or "\0", row.name or "The picture")


def _format_of(picture: LoadedImage) -> str:
    """In which its result is written."""
    return picture.info.format if picture.info.format in Image.SAVE else "PNG"


def _fetch(url: str) -> bytes:
    """A file that is not on this machine, or in an archive.

    Raises:
        FileNotFoundError: where there is none.
        Stopped: where it cannot be reached.
    """
    try:
        with fsspec.open(url, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise
    except Exception as error:  # of any network library
        raise Stopped(f"{url} cannot be read: {one_line(error)} {GO_ON}") from error


def list_failed(output: Folder | Repository) -> dict[str, dict]:
    """Brings failed.jsonl up to date; returns the records of all whole shards.

    The last process to look finds all there is, and one that had looked before it and writes after it looks again.
    """
    while True:
        progress = output.progress()
        failures = [{**failure, "shard": name} for name in sorted(progress) for failure in progress[name]["failed"]]
        text = "".join(json.dumps(failure, ensure_ascii=False) + "\n" for failure in failures)
        if output.read("failed.jsonl") == text:
            return progress
        output.write("failed.jsonl", text)
