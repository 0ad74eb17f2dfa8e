"""What is done for a task: its shards, from the dataset to the output."""

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import fsspec
import torch
from loguru import logger
from tqdm import tqdm

from hf_faceenh import faults
from hf_faceenh.batch.collection import Picture
from hf_faceenh.batch.process import GO_ON, Stopped, fatal, patiently, say
from hf_faceenh.batch.run import Run
from hf_faceenh.batch.shards import SHARDS, Shard
from hf_faceenh.commands import pipeline_options, saving_options
from hf_faceenh.errors import one_line
from hf_faceenh.jobs import described, enhance_one, result_size
from hf_faceenh.pictures.writing import kept_format
from hf_faceenh.planning import Job
from hf_faceenh.window import DECODED

T, S = TypeVar("T"), TypeVar("S")

SMALL = torch.full((3, 64, 64), 0.5)  # a picture that fits wherever any does
TOO_LARGE = "needs more memory than this machine has: "


def ahead(pool: Executor, function: Callable[[T], S], items: Iterable[T], limit: int) -> Iterator[S]:
    """`function` of the items, in their order, computed by `pool` up to `limit` items ahead, and of pictures no more
    than have `DECODED` pixels; one alone may have more."""
    pending: deque[tuple[T, Future[S]]] = deque()
    for item in items:
        while pending and (len(pending) > limit or pixels([item, *(other for other, _ in pending)]) > DECODED):
            yield pending.popleft()[1].result()
        pending.append((item, pool.submit(function, item)))
    while pending:
        yield pending.popleft()[1].result()


def batches(pictures: Iterable[Picture], size: int) -> Iterator[list[Picture]]:
    """Up to `size` pictures together, fewer where they are large: a batch is full with `DECODED` pixels, so that no
    other picture is waited for beside a very large one."""
    batch: list[Picture] = []
    for picture in pictures:
        if batch and pixels([*batch, picture]) > DECODED:
            yield batch
            batch = []
        batch.append(picture)
        if len(batch) == size or pixels(batch) >= DECODED:
            yield batch
            batch = []
    if batch:
        yield batch


def pixels(items: Iterable[Any]) -> int:
    """Of all pictures among them."""
    return sum(item.pixels for item in items if isinstance(item, Picture))


class Work:
    """Makes shards.

    One thread reads the dataset, some fetch, decode and encode; this one computes and writes. All of them keep only a
    few pictures ahead of the next.

    Args:
        run: to which the shards belong.
        bar: is moved on with every picture.
    """

    def __init__(self, run: Run, bar: tqdm):
        self.run, self.pipe, self.processor, self.bar = run, run.pipe, run.pipe.image_processor, bar
        self.options, self.saving = pipeline_options(run.options), saving_options(run.options)
        self.batch_size, self.num_workers = run.options.batch_size, run.options.num_workers
        self.reading, self.coding = ThreadPoolExecutor(1), ThreadPoolExecutor(self.num_workers)
        self.writing = f"Writing to {run.output} failed"

    def close(self) -> None:
        """Ends the threads."""
        for pool in (self.reading, self.coding):
            pool.shutdown(cancel_futures=True)

    def make(self, name: str, pictures: Iterator[Picture]) -> None:
        """Makes the shard of a name from its pictures, and publishes it.

        Raises:
            Stopped: for a fault of the environment that did not pass.
        """
        with fatal(OSError, self.writing), self.run.output.staging() as staging:
            shard = SHARDS[self.run.options.format](staging, name, self.run.collection.column, self.run.features)
            read = ahead(self.reading, lambda _: next(pictures, None), itertools.count(), self.batch_size)
            read = itertools.takewhile(lambda picture: picture is not None, read)
            fetch, decode = partial(self._attempt, self._fetch), partial(self._attempt, self._decode)
            fetched = ahead(self.coding, fetch, read, self.batch_size + self.num_workers)
            decoded = ahead(self.coding, decode, fetched, self.batch_size + self.num_workers)
            save = partial(self._attempt, self._save, what=self.writing)
            for picture in ahead(self.coding, save, self._enhance(decoded, shard), self.num_workers):
                shard.add(picture)
                self.bar.update()
            patiently(self.run.output.publish, name, shard.finish(), shard.record)

    def _attempt(self, function: Callable[[Picture], None], picture: Picture, what: str | None = None) -> Picture:
        """Calls a function for a picture with which nothing is wrong so far. If it fails, the picture knows why.

        Raises:
            Stopped: where something else is wrong; it says so of `what`.
        """
        try:
            if not picture.wrong:
                patiently(function, picture)
        except Exception as error:
            fault, too_large = faults.fault_of(error), faults.short_of_memory(error)
            if fault is faults.Fault.ENVIRONMENT and not too_large:
                raise Stopped(f"{what or picture}: {one_line(error)} {GO_ON}") from error
            if fault is faults.Fault.PROGRAM:  # the task's log gets what is needed to mend it
                logger.opt(exception=error).debug("A picture has failed.")
            reason, source = faults.described(error), picture.source
            reason = reason.replace(source, str(picture)) if isinstance(source, str) else reason
            picture.wrong = TOO_LARGE + reason if too_large else reason
        return picture

    def _fetch(self, picture: Picture) -> None:
        picture.source = _nearer(picture.source)
        picture.frames = self.processor.load_frames(picture.source)
        picture.pixels = picture.frames.pixels

    def _decode(self, picture: Picture) -> None:
        first = next(iter(picture.frames))
        if len(picture.frames) == 1:
            size = result_size(self.pipe, first, self.options["upscale"], self.options["aligned"])
            self.processor.check(str(picture), size, first.info, kept_format(first.info))
            picture.loaded, picture.remark = first, first.remark
        picture.info = first.info

    def _enhance(self, pictures: Iterator[Picture], shard: Shard) -> Iterator[Picture]:
        for batch in batches(pictures, self.batch_size):
            together = [picture for picture in batch if picture.loaded]
            if len(together) > 1:
                with contextlib.suppress(Exception):  # then each is tried on its own
                    self._enhance_together(*together)
            for picture in batch:
                if not picture.wrong:
                    shard.name(picture)
                    if picture.result is None:
                        self._enhance_alone(picture)
                if picture.remark:
                    say(f"{picture}: {picture.remark}")
                picture.source = picture.frames = picture.loaded = None
                yield picture

    def _enhance_together(self, *pictures: Picture) -> None:
        loaded = [picture.loaded for picture in pictures]
        output = self.pipe(loaded, output_type="deep", face_pictures=False, **self.options)
        for picture, image, faces in zip(pictures, output.images, output.faces, strict=True):
            picture.result, picture.faces = image, [described(face) for face in faces]

    def _enhance_alone(self, picture: Picture) -> None:
        """It is to blame if it fails, unless a small one fails too: memory is short, or the GPU has crashed.

        Raises:
            Stopped: where that one fails.
        """
        self._attempt(self._enhance_together if picture.loaded else self._enhance_frames, picture, "Enhancing failed")
        if picture.wrong:
            too_large = picture.wrong.startswith(TOO_LARGE)
            with fatal(Exception, "There is too little memory" if too_large else "Nothing can be enhanced"):
                self.pipe([self.processor.load(SMALL)], **self.options)

    def _enhance_frames(self, picture: Picture) -> None:
        job = Job(picture.source, picture.file, compare=None, faces=None, keep_format=True)
        record = enhance_one(self.pipe, job, self.options, self.saving, overwrite=True)
        picture.faces, picture.remark = record["faces"], record.get("remark")

    def _save(self, picture: Picture) -> None:
        if picture.result is not None:
            info, format = picture.info, kept_format(picture.info)
            self.processor.save(picture.result, picture.file, info=info, format=format, **self.saving)
            picture.result = None


def _nearer(source: bytes | str | None) -> bytes | str:
    """The content of a file that is not on this machine, or in an archive; another source as it is.

    Raises:
        ValueError: where there is none.
        ConnectionError: where it cannot be reached.
    """
    if source is None:
        raise ValueError("The dataset has no picture here.")
    if isinstance(source, bytes) or "://" not in source:
        return source
    try:
        with fsspec.open(source, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise ValueError(f"There is no {source}.") from None
    except Exception as error:  # of any network library
        raise ConnectionError(f"{source} cannot be read: {one_line(error)}") from error
