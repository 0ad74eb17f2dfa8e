"""What is done for a task: its shards, from the dataset to the output."""

import contextlib
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import torch
from loguru import logger
from tqdm import tqdm

from hf_faceenh import faults
from hf_faceenh.batch.collection import Picture
from hf_faceenh.batch.process import GO_ON, Stopped, fatal, patiently
from hf_faceenh.batch.run import Run
from hf_faceenh.batch.shards import ShardWriter
from hf_faceenh.commands import pipeline_options, saving_options
from hf_faceenh.errors import one_line
from hf_faceenh.files import remove
from hf_faceenh.jobs import described, enhance_one, result_size
from hf_faceenh.learning.data import size_in_header
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
        staging: a folder to make them in.
        bar: is moved on with every picture.
    """

    def __init__(self, run: Run, staging: Path, bar: tqdm):
        options = run.options
        self.run, self.pipe, self.processor = run, run.pipe, run.pipe.image_processor
        self.staging, self.bar, self.writing = staging, bar, f"Writing to {run.output} failed"
        self.options, self.saving, self.format = pipeline_options(options), saving_options(options), options.format
        self.batch_size, self.num_workers = options.batch_size, options.num_workers
        self.reading, self.coding = ThreadPoolExecutor(1), ThreadPoolExecutor(self.num_workers)

    def __enter__(self) -> "Work":
        return self

    def __exit__(self, *_: object) -> None:
        for pool in (self.reading, self.coding):
            pool.shutdown(cancel_futures=True)

    def make(self, shard: str, pictures: Iterator[Picture]) -> dict[str, int]:
        """Makes a shard and publishes it.

        Args:
            shard: its name.
            pictures: of the shard.

        Returns:
            how many shards, pictures, enhanced faces and bad pictures were published.

        Raises:
            Stopped: for a fault of the environment that did not pass.
        """
        with fatal(OSError, self.writing):
            writer = ShardWriter(self.staging / shard, self.run.collection, self.format)
            read = ahead(self.reading, lambda _: next(pictures, None), itertools.count(), self.batch_size)
            read = itertools.takewhile(lambda picture: picture is not None, read)
            fetched = ahead(self.coding, self._fetch, read, self.batch_size + self.num_workers)
            decoded = ahead(self.coding, self._decode, fetched, self.batch_size + self.num_workers)
            for picture in ahead(self.coding, self._save, self._enhance(decoded, writer), self.num_workers):
                writer.add(picture)
                self.bar.update()
            made, record = writer.finish(shard)
            is_new = patiently(self.run.output.publish, shard, made, record)
            remove(writer.folder)
        counts = {"pictures": record["pictures"], "faces": record["faces"], "failed": len(record["failed"])}
        return counts | {"shards": 1} if is_new else {}

    def _attempt(self, picture: Picture, what: str, function: Callable[..., None], *arguments: Any) -> None:
        """Calls a function for one picture. If it fails, the picture knows what is wrong with it.

        Raises:
            Stopped: where something else is wrong; it says so of `what`.
        """
        try:
            patiently(function, *arguments)
        except Exception as error:
            fault, too_large = faults.fault_of(error), faults.short_of_memory(error)
            if fault is faults.Fault.ENVIRONMENT and not too_large:
                raise Stopped(f"{what}: {one_line(error)} {GO_ON}") from error
            if fault is faults.Fault.PROGRAM:  # the task's log gets what is needed to mend it
                logger.opt(exception=error).debug("A picture has failed.")
            picture.wrong = (TOO_LARGE if too_large else "") + faults.described(error)

    def _fetch(self, picture: Picture) -> Picture:
        if picture.content is None:
            self._attempt(picture, str(picture), _get, picture)
        if not picture.wrong:
            encoded = {"bytes": picture.content, "path": picture.path}
            picture.pixels = math.prod(size_in_header(encoded, self.processor.limits) or (0,))
        return picture

    def _decode(self, picture: Picture) -> Picture:
        if not picture.wrong:
            self._attempt(picture, str(picture), self._load, picture)
        return picture

    def _load(self, picture: Picture) -> None:
        frames = self.processor.load_frames(_source(picture))
        first = next(iter(frames))
        if len(frames) == 1:
            size = result_size(self.pipe, first, self.options["upscale"], self.options["aligned"])
            self.processor.check(picture.path or "The picture", size, first.info, kept_format(first.info))
            picture.loaded, picture.remark = first, first.remark
        picture.info = first.info

    def _enhance(self, pictures: Iterator[Picture], writer: ShardWriter) -> Iterator[Picture]:
        for batch in batches(pictures, self.batch_size):
            self._enhance_together([picture for picture in batch if picture.loaded])
            for picture in batch:
                if not picture.wrong:
                    writer.name(picture)
                    if not picture.loaded:
                        self._enhance_alone(picture, self._enhance_frames, picture)
                if picture.remark:
                    self.run.process.say(f"{picture}: {picture.remark}")
                picture.loaded = picture.content = None
                yield picture

    def _enhance_together(self, pictures: Sequence[Picture]) -> None:
        """If one fails, each is tried on its own."""
        if len(pictures) > 1:
            with contextlib.suppress(Exception):
                return self._call(pictures)
            self._check_device()
        for picture in pictures:
            self._enhance_alone(picture, self._call, [picture])

    def _enhance_alone(self, picture: Picture, function: Callable[..., None], *arguments: Any) -> None:
        """It is too large for this machine if memory stays short for it, but not for a small one."""
        self._attempt(picture, "Enhancing failed", function, *arguments)
        if picture.wrong:
            self._check_device()
        if picture.wrong and picture.wrong.startswith(TOO_LARGE):
            with fatal(Exception, "There is too little memory"):
                self.pipe([self.processor.load(SMALL)], **self.options)

    def _call(self, pictures: Sequence[Picture]) -> None:
        output = self.pipe([picture.loaded for picture in pictures], output_type="deep", **self.options)
        for picture, image, faces in zip(pictures, output.images, output.faces, strict=True):
            picture.result, picture.faces = image, [described(face) for face in faces]

    def _enhance_frames(self, picture: Picture) -> None:
        job = Job(_source(picture), picture.file, compare=None, faces=None, keep_format=True)
        record = enhance_one(self.pipe, job, self.options, self.saving, overwrite=True)
        picture.faces, picture.remark = record["faces"], record.get("remark")

    def _check_device(self) -> None:
        """
        Raises:
            Stopped: where the GPU has crashed, and all other pictures would fail.
        """
        if self.pipe.device.type == "cuda":
            with fatal(RuntimeError, "The GPU has failed"):
                torch.cuda.empty_cache()
                torch.cuda.synchronize()

    def _save(self, picture: Picture) -> Picture:
        if picture.result is not None:
            info, format = picture.info, kept_format(picture.info)
            save = partial(self.processor.save, info=info, format=format, **self.saving)
            self._attempt(picture, self.writing, save, picture.result, picture.file)
            picture.result = None
        return picture


def _source(picture: Picture) -> bytes | str:
    return picture.path if picture.content is None else picture.content


def _get(picture: Picture) -> None:
    """Fetches a file that is not on this machine, or in an archive.

    Raises:
        ValueError: where there is none.
        ConnectionError: where it cannot be reached.
    """
    url = picture.path
    if url is None:
        raise ValueError("The dataset has no picture here.")
    if "://" not in url:
        return
    try:
        with fsspec.open(url, "rb") as file:
            picture.content = file.read()
    except FileNotFoundError:
        raise ValueError(f"There is no {url}.") from None
    except Exception as error:  # of any network library
        raise ConnectionError(f"{url} cannot be read: {one_line(error)}") from error
