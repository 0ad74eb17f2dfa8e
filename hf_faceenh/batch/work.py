"""What is done for a task: its shards, from the dataset to the output."""

import itertools
import shutil
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import fsspec
import torch
from loguru import logger
from PIL import Image
from tqdm import tqdm

from hf_faceenh import faults
from hf_faceenh.batch.collection import End, Row, Shard
from hf_faceenh.batch.process import GO_ON, Interrupted, Stopped, fatal, patiently, stop_signals
from hf_faceenh.batch.run import Run
from hf_faceenh.batch.shards import ShardWriter
from hf_faceenh.commands import pipeline_options, saving_options
from hf_faceenh.errors import one_line
from hf_faceenh.jobs import described, result_size
from hf_faceenh.pictures import LoadedImage
from hf_faceenh.pictures.frames import Frames

T, S = TypeVar("T"), TypeVar("S")

SMALL = torch.full((3, 64, 64), 0.5)  # a picture that fits wherever any does


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
    """Makes the shards of one task.

    One thread reads the dataset, some decode and encode; this one computes and writes. All of them keep only a few
    pictures ahead of the next.

    Args:
        run: to which the task belongs.
        task: its number.
        staging: a folder to make shards in.
    """

    def __init__(self, run: Run, task: int, staging: Path):
        args = run.args
        self.process, self.pipe, self.collection, self.output = run.process, run.pipe, run.collection, run.output
        self.options, self.save_options, self.format = pipeline_options(args), saving_options(args), args.format
        self.batch_size, self.num_workers = args.batch_size, args.num_workers
        self.events, self.staging = run.collection.read(task, run.record), staging
        self.reading, self.coding = ThreadPoolExecutor(1), ThreadPoolExecutor(self.num_workers)
        self.saving: deque[tuple[Row, Path, list[dict], Future]] = deque()  # pictures that are being encoded
        self.made = Counter()  # what was published

    def run(self, bar: tqdm) -> Counter:
        """
        Returns:
            how many shards, pictures, enhanced faces and bad pictures were published.

        Raises:
            Stopped: for a fault of the environment that did not pass.
            Interrupted: after a signal.
        """
        with stop_signals() as signals:
            try:
                self._make_shards(bar, signals)
            finally:
                for pool in (self.reading, self.coding):
                    pool.shutdown(cancel_futures=True)
        if signals:
            raise Interrupted(signals[0])
        return self.made

    def _make_shards(self, bar: tqdm, signals: Sequence[signal.Signals]) -> None:
        read = ahead(self.reading, self._next, itertools.repeat(self.events), self.batch_size)
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
                self._settle(writer, 0)
                with fatal(OSError, f"Writing to {self.output} failed"):
                    self._finish(writer, event.last)
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
            frames, picture = patiently(self._load, content, path)
            if len(frames) > 1:
                return event, frames
            size = result_size(self.pipe, picture, self.options["upscale"], self.options["aligned"])
            self.pipe.image_processor.check(path or "The picture", size, picture.info, _format_of(picture))
            if picture.remark:
                self.process.say(f"{event.name or f'picture {event.index}'}: {picture.remark}")
            return event, picture
        except Exception as error:
            if faults.fault_of(error) is faults.Fault.ENVIRONMENT and not faults.short_of_memory(error):
                raise Stopped(f"{event.name or f'Picture {event.index}'}: {one_line(error)} {GO_ON}") from error
            short = "needs more memory than this machine has: " if faults.short_of_memory(error) else ""
            return event, short + _reason(error, event)

    def _load(self, content: bytes | None, path: str | None) -> tuple[Frames, LoadedImage]:
        """A picture's frames, and the first of them."""
        if content is None and "://" in path:
            content = _fetch(path)
        frames = self.pipe.image_processor.load_frames(path if content is None else content)
        return frames, next(iter(frames))

    def _begin(self, shard: Shard) -> ShardWriter:
        with fatal(OSError, f"Writing to {self.output} failed"):
            return ShardWriter(self.staging / shard.name, shard, self.collection, self.format)

    def _enhance_batch(self, batch: Sequence[tuple[Row, LoadedImage | Frames | str]], writer: ShardWriter) -> None:
        outcomes = iter(self._enhance([picture for _, picture in batch if isinstance(picture, LoadedImage)]))
        for row, picture in batch:
            if isinstance(picture, Frames):
                self._enhance_frames(row, picture, writer)
                continue
            outcome = picture if isinstance(picture, str) else next(outcomes)
            if isinstance(outcome, str):
                writer.fail(row, outcome)
                continue
            image, faces = outcome
            format = _format_of(picture)
            file = writer.file_for(row, format)
            save = partial(patiently, self.pipe.image_processor.save, **self.save_options)
            saved = self.coding.submit(save, image, file, picture.info, format)
            self.saving.append((row, file, faces, saved))
            self._settle(writer, self.num_workers)

    def _enhance_frames(self, row: Row, frames: Frames, writer: ShardWriter) -> None:
        """An animation, or the pages of a file; the faces are those of the first frame."""
        processor, reading = self.pipe.image_processor, iter(frames)
        try:
            first = next(reading)
        except Exception as error:
            writer.fail(row, _reason(error, row))
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
        except Stopped:
            raise
        except Exception as error:
            saved.set_exception(error)
        else:
            saved.set_result(None)
        if frames.remark:
            self.process.say(f"{row.name or f'picture {row.index}'}: {frames.remark}")
        self.saving.append((row, file, next(iter(faces), []), saved))

    def _enhance(self, pictures: list[LoadedImage]) -> list[tuple[Image.Image, list[dict]] | str]:
        """For every picture the result and its faces, or what is wrong: if one fails, each is tried on its own."""
        if not pictures:
            return []
        try:
            return self._call(pictures)
        except Exception as error:
            reason, short = noted(error), faults.short_of_memory(error)  # not the error, which holds memory
        self._check_device()
        if len(pictures) > 1:
            return [outcome for picture in pictures for outcome in self._enhance([picture])]
        return self._enhance_in_need(pictures[0]) if short else [reason]

    def _call(self, pictures: list[LoadedImage | torch.Tensor]) -> list[tuple[Image.Image, list[dict]]]:
        output = self.pipe(pictures, output_type="deep", **self.options)
        faces = [[described(face) for face in of_one] for of_one in output.faces]
        return list(zip(output.images, faces, strict=True))

    def _enhance_in_need(self, picture: LoadedImage) -> list[tuple[Image.Image, list[dict]] | str]:
        """A picture for which memory was short though it was alone: it is too large for this machine if it still fails
        after a while, and a small one does not."""
        try:
            return patiently(self._call, [picture])
        except Exception as error:
            if not faults.short_of_memory(error):
                return [noted(error)]
            reason = one_line(error)
        with fatal(Exception, "There is too little memory"):
            self._call([self.pipe.image_processor.load(SMALL)])
        return [f"needs more memory than this machine has: {reason}"]

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

    def _settle(self, writer: ShardWriter, most: int) -> None:
        """Puts pictures into the shard, in their order, until at most so many are still being encoded."""
        while len(self.saving) > most:
            with fatal(OSError, f"Writing to {self.output} failed"):
                writer.add(*self.saving.popleft())

    def _finish(self, writer: ShardWriter, last: bool) -> None:
        made, record = writer.finish(last)
        if patiently(self.output.publish, writer.shard.name, made, record):
            counts = {"pictures": record["pictures"], "faces": record["faces"], "failed": len(record["failed"])}
            self.made.update(counts | {"shards": 1})
        shutil.rmtree(writer.folder, ignore_errors=True)


def noted(error: Exception) -> str:
    """What the record of a picture says of an error; the task's log gets what is needed to mend the program."""
    if faults.fault_of(error) is faults.Fault.PROGRAM:
        logger.opt(exception=error).debug("A picture has failed.")
    return faults.described(error)


def _reason(error: Exception, row: Row) -> str:
    """What is wrong with a picture, without a path of this machine."""
    return noted(error).replace(row.picture["path"] or "\0", row.name or "The picture")


def _format_of(picture: LoadedImage) -> str:
    """In which its result is written."""
    return picture.info.format if picture.info.format in Image.SAVE else "PNG"


def _fetch(url: str) -> bytes:
    """A file that is not on this machine, or in an archive.

    Raises:
        ValueError: where there is none.
        ConnectionError: where it cannot be reached.
    """
    try:
        with fsspec.open(url, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise ValueError(f"There is no {url}.") from None
    except Exception as error:  # of any network library
        raise ConnectionError(f"{url} cannot be read: {one_line(error)}") from error
