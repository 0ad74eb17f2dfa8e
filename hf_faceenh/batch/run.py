"""A run: its options, its output, what is left to be made, and how it ends."""

import argparse
import hashlib
import json
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import datasets
import torch
from accelerate.utils import parse_flag_from_env
from huggingface_hub import DatasetCard, DatasetCardData
from huggingface_hub.utils import disable_progress_bars

from hf_faceenh.allocator import keep_freed_memory
from hf_faceenh.batch.collection import Collection
from hf_faceenh.batch.output import Folder, open_output
from hf_faceenh.batch.process import launched, say
from hf_faceenh.batch.shards import output_features
from hf_faceenh.commands import model_options
from hf_faceenh.loading import load_pipeline
from hf_faceenh.model_card import REPOSITORY
from hf_faceenh.onnx.networks import OnnxNetwork
from hf_faceenh.pipeline import FaceEnhancePipeline
from hf_faceenh.provenance import public_name

# The options that decide nothing of what is written.
UNDECIDING = {"accept_license", "batch_size", "executor", "num_workers", "output", "private", "retry_failed"}


class Run:
    """What a process opens once for all its tasks.

    Args:
        options: of the command line.
    """

    def __init__(self, **options: Any):
        self.options = options = argparse.Namespace(**options)
        disable_progress_bars()  # of up- and downloads
        if launched().rank:
            datasets.disable_progress_bars()
        self.output = open_output(options.output, options.private)
        if isinstance(self.output, Folder) and self.output.path.is_relative_to(Path(options.dataset).resolve()):
            raise ValueError(f"The output {self.output} lies in the dataset's folder and would become part of it.")
        self.collection = Collection(
            options.dataset, options.split, options.streaming, options.column, options.shard_size
        )
        self.features = output_features(self.collection.features, self.collection.column, options.format)

    @cached_property
    def pipe(self) -> FaceEnhancePipeline:
        options, device = self.options, "cpu" if parse_flag_from_env("ACCELERATE_USE_CPU") else "auto"
        if device == "auto" and torch.cuda.is_available():  # of several GPUs this process gets its own
            torch.cuda.set_device(launched().local_rank % torch.cuda.device_count())
        keep_freed_memory()
        pipe = load_pipeline(device=device, dtype=options.dtype, backend=options.backend, **model_options(options))
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def settle(self) -> None:
        """Makes sure that all processes and all starts of the run have the same options, and that the card is there.

        Raises:
            ValueError: where they differ, or the output holds something else.
        """
        output, options = self.output, self._deciding()
        names = output.prepare()  # before reading: other processes of this run may be writing
        if "options.json" not in names and any(not name.startswith((".", "README.md")) for name in names):
            raise ValueError(f"The output {output} holds something that is no run of this program. Choose another.")
        known = output.read("options.json")
        if known is None:
            output.write("options.json", json.dumps(options, indent=1) + "\n")
        else:
            _check_same(str(output), json.loads(known), options)
        if output.read("README.md") is None:
            output.write("README.md", self._card(options))

    def _deciding(self) -> dict[str, Any]:
        """All that decides what is written; no path of this machine, because others may read it."""
        deciding = {name: value for name, value in vars(self.options).items() if name not in UNDECIDING}
        for name in ("dataset", "model", "super_resolver"):
            deciding[name] = deciding[name] and public_name(deciding[name])
        deciding |= {"column": self.collection.column, "weights": checksum(self.pipe)}
        return deciding | self.collection.fingerprint()

    def _card(self, options: Mapping[str, Any]) -> str:
        """A dataset card."""
        files = f"data/{self.collection.prefix}-*" + (".parquet" if options["format"] == "parquet" else "/*")
        config = {"config_name": "default", "data_files": [{"split": self.collection.prefix, "path": files}]}
        config["features"] = self.features._to_yaml_list()  # a metadata.jsonl does not tell types
        data = DatasetCardData(configs=[config], task_categories=["image-to-image"], tags=["face-enhancement"])
        title, template = PurePosixPath(str(self.output)).name, REPOSITORY / "dataset_card.md"
        return str(DatasetCard.from_template(data, template_path=template, title=title, options=options))

    def final(self, record: dict | None) -> dict | None:
        """The record of a shard; `None` if it is missing, or the shard is to be made again."""
        return None if record and record["failed"] and self.options.retry_failed else record

    def conclude(self) -> int:
        """Lists the bad pictures, and says what has been made of the whole collection; the exit status. Only the last
        process to end tells of bad pictures by its status: launchers end all other processes when one fails."""
        before, progress = None, self.output.progress()
        while progress != before:  # else one process may write last what it had seen before another
            failures = [failure | {"shard": name} for name in progress for failure in progress[name]["failed"]]
            lines = [json.dumps(failure, ensure_ascii=False) + "\n" for failure in failures]
            self.output.write("failed.jsonl", "".join(lines))
            before, progress = progress, self.output.progress()
        whole = [self.collection.is_whole(task, progress.get) for task in range(self.collection.tasks)]
        if not all(whole):
            missing = f"{whole.count(False)} of {len(whole)} parts are not made yet."
            say(f"{missing} Unless others still work on them, run the command again.")
            return 0 if launched().world_size > 1 else 1
        pictures, faces = (sum(record[name] for record in progress.values()) for name in ("pictures", "faces"))
        listed = f" (see {self.output}/failed.jsonl; --retry-failed tries them again)" if failures else ""
        say(f"complete: {pictures} pictures with {faces} enhanced faces, {len(failures)} failed{listed}")
        return 1 if failures else 0


opened = lru_cache(maxsize=1)(Run)


def _check_same(output: str, known: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """
    Raises:
        ValueError: where the options that the run was begun with differ from those that it is started with now.
    """
    differing = [name for name in {**options, **known} if known.get(name) != options.get(name)]
    if not differing:
        return
    if set(differing) <= {"pictures", "names"}:
        raise ValueError(
            f"The dataset {options['dataset']} is not the one that {output} was begun with: that had "
            f"{known['pictures']} pictures, this has {options['pictures']}, or others by name. Choose another output."
        )
    name = differing[0]
    raise ValueError(
        f"{output} was begun with other options: {name} was {known.get(name)!r}, and is {options.get(name)!r} now. "
        "Give the same again, or choose another output."
    )


def checksum(pipe: FaceEnhancePipeline) -> str:
    """A checksum of all weights."""
    digest = hashlib.sha256()
    for component in pipe.components.values():
        if isinstance(component, OnnxNetwork):
            for file in component.files:
                digest.update(file.read_bytes())
        elif isinstance(component, torch.nn.Module):
            for name, tensor in component.state_dict().items():
                digest.update(name.encode())
                digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
