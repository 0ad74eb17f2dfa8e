"""Who makes which shard, when, and again after what: datatrove, on this machine, SLURM, Ray or Hugging Face Jobs.

A task of the engine is one shard of a table, or one file of a stream. It is complete when its shards are in the output
with their records, whichever run, engine or process has put them there.
"""

import argparse
import contextlib
import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datatrove.executor import JobsPipelineExecutor, LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor
from jsonargparse import ArgumentParser
from loguru import logger
from torch.multiprocessing import ProcessExitedException, spawn
from tqdm import tqdm

from hf_faceenh.batch.output import Folder, open_output
from hf_faceenh.batch.process import GO_ON, Stopped, interruptible, launched, say
from hf_faceenh.batch.run import Run, opened
from hf_faceenh.batch.work import Work
from hf_faceenh.errors import one_line
from hf_faceenh.loading import check_installed

KILLED = 3  # times that workers may be killed without a task being completed
# What is no option of the user's: it is decided here, or would have a task done twice.
OURS = {"pipeline", "tasks", "depends", "skip_completed", "job_id_retriever", "nodes_per_task"}
OURS |= {"start_method", "local_tasks", "local_rank_offset"}


@dataclass
class MakeShards:
    """The only step of the pipeline: a task's shards.

    Args:
        options: of the command line, with paths that hold on every machine.
    """

    options: dict[str, Any]

    def __call__(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Makes the shards of the task `rank`.

        Raises:
            Stopped: as `Work.make`.
        """
        run = opened(**self.options)
        total, hidden = run.collection.size(rank), launched().local_rank > 0
        bar = tqdm(desc=f"part {rank + 1} of {world_size}", total=total, unit="picture", disable=hidden)
        with bar, contextlib.closing(Work(run, bar)) as work:
            for shard, pictures in run.collection.shards(rank):
                if run.final(run.output.record(shard)) is None:
                    work.make(shard, pictures)


class _ByShards:
    """What an executor takes for a task that is completed: one whose shards are whole."""

    def is_rank_completed(self, rank: int) -> bool:
        run = opened(**self.pipeline[0].options)
        return run.collection.is_whole(rank, lambda shard: run.final(run.output.record(shard)))

    def get_incomplete_ranks(self, ranks: Iterable[int] | None = None, skip_completed: Any = None) -> list[int]:
        run = opened(**self.pipeline[0].options)
        progress = {name: run.final(record) for name, record in run.output.progress().items()}
        ranks = range(self.world_size) if ranks is None else ranks
        return [rank for rank in ranks if not run.collection.is_whole(rank, progress.get)]

    def mark_rank_as_completed(self, rank: int) -> None:
        """The record of its last shard has marked it."""


class LocalExecutor(_ByShards, LocalPipelineExecutor):
    """On this machine, in this process or in `workers` others. The pool of datatrove's own waits for ever where one of
    them is killed; here others take their places."""

    def run(self) -> None:
        """
        Raises:
            Stopped: as `Work.make`, or where workers are killed again and again.
        """
        logger.disable("datatrove")  # but in the tasks' own logs
        process, killed = launched(), 0
        ranks = self.get_incomplete_ranks(range(process.rank, self.tasks, process.world_size))
        if self.workers == 1:
            for rank in ranks:
                self._run_for_rank(rank)
            return
        while ranks:
            begun = multiprocessing.get_context("spawn").Value("i", 0)
            try:
                return spawn(_work, (self, ranks, begun), min(self.workers, len(ranks)), daemon=True)
            except ProcessExitedException as error:
                if error.exit_code > 0:  # the worker has said why
                    return
                left = self.get_incomplete_ranks(ranks)
                killed = killed + 1 if len(left) == len(ranks) else 1
                if killed == KILLED:
                    raise Stopped(f"Workers are killed {KILLED} times: is there too little memory? {GO_ON}") from error
                say("a worker was killed; another takes its place.")
                ranks = left
            except KeyboardInterrupt:
                for worker in multiprocessing.active_children():
                    worker.terminate()
                    worker.join()
                raise


def _work(number: int, executor: LocalExecutor, ranks: Sequence[int], begun: Any) -> None:
    """Does one task after the other in a process of its own, as long as some are not `begun` by any worker."""
    os.environ["LOCAL_RANK"] = str(number)  # by which it finds its GPU
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it is to tidy up, and then says nothing
    logger.disable("datatrove")
    while multiprocessing.parent_process().is_alive():
        with begun.get_lock():
            index, begun.value = begun.value, begun.value + 1
        if index >= len(ranks):
            return
        try:
            executor._run_for_rank(ranks[index])
        except (ValueError, OSError) as error:
            say(one_line(error))
            sys.exit(1)


class SlurmExecutor(_ByShards, SlurmPipelineExecutor):
    """Submits jobs to SLURM."""


class RayExecutor(_ByShards, RayPipelineExecutor):
    """On the Ray cluster of RAY_ADDRESS, or of this machine. datatrove's own starts a worker for every job, and waits
    for ever for a task whose process was killed; here Ray brings jobs to its workers, and to another if one dies."""

    def run(self) -> None:
        """
        Raises:
            OSError: where Ray is not installed.
        """
        check_installed("ray", "--executor ray", "ray")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told that it runs
        import ray

        memory = int(self.mem_per_cpu_gb * self.cpus_per_task * 2**30)
        needs = {"num_cpus": self.cpus_per_task, "num_gpus": self.gpus_per_task, "memory": memory}
        job = ray.remote(**needs | (self.ray_remote_kwargs or {}))(_run_job)
        ranks, running = self.get_incomplete_ranks(), []
        jobs = [ranks[first : first + self.tasks_per_job] for first in range(0, len(ranks), self.tasks_per_job)]
        while jobs or running:
            while jobs and len(running) < self.workers:
                running.append(job.remote(self, jobs.pop(0)))
            (done,), running = ray.wait(running)
            try:
                ray.get(done)
            except ray.exceptions.RayError as error:  # the others go on
                say(one_line(getattr(error, "cause", None) or error))


def _run_job(executor: RayExecutor, ranks: Sequence[int]) -> None:
    """Does tasks in a process of Ray's, one after the other. One for which `time` is up is killed, and begun anew."""
    for local_rank, rank in enumerate(ranks, not executor.log_first):
        signal.alarm(executor.time or 0)
        try:
            executor._run_for_rank(rank, local_rank)
        finally:
            signal.alarm(0)


class JobsExecutor(_ByShards, JobsPipelineExecutor):
    """As Jobs of Hugging Face."""

    def _merge_stats(self) -> None:
        """The records of the shards have all counts, and a task that another engine has done has no others."""


ENGINES = {"local": LocalExecutor, "slurm": SlurmExecutor, "ray": RayExecutor, "jobs": JobsExecutor}


def engine_options(name: str, words: Sequence[str]) -> dict[str, Any]:
    """An engine's own options, as its executor in datatrove documents them: `--cpus-per-task 4` is `cpus_per_task=4`.

    Args:
        name: one of `ENGINES`.
        words: of the command line, that are no options of the command.
    """
    parser = ArgumentParser(f"python -m hf_faceenh.batch --executor {name}", usage="")
    parser.add_class_arguments(ENGINES[name].__mro__[2], skip=OURS)
    words = [re.sub(r"^--[\w-]+", lambda option: "--" + option[0][2:].replace("-", "_"), word) for word in words]
    return parser.parse_args(words, defaults=False).as_dict()


def launch(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Has the run made, or this process's part of it; returns the exit status.

    Args:
        args: options of the command line.
        words: the rest of it, the engine's own options.

    Raises:
        ValueError, OSError: in one line, for options or data that do not fit, and what kept the work from being done.
    """
    chosen = engine_options(args.executor, words)
    places = {name: _everywhere(getattr(args, name)) for name in ("dataset", "model", "super_resolver")}
    options = vars(args) | places | {"output": str(open_output(args.output, args.private))}
    opened.cache_clear()
    run = opened(**options)
    executor = ENGINES[args.executor]([MakeShards(options)], run.collection.tasks, **_defaults(run) | chosen)
    run.settle()
    try:
        with interruptible():
            executor.run()
    except KeyboardInterrupt as interruption:
        say(f"stopped by {interruption.args[0].name}. {GO_ON}")
        return 128 + interruption.args[0]
    if args.executor == "slurm" and executor.get_incomplete_ranks():
        say("submitted. Once the jobs have ended, the same command says what is there, and does the rest.")
        return 0
    return run.conclude()


def _everywhere(name: str | None) -> str | None:
    """A path as every process finds it, in whichever folder it starts; a name on the Hub as it is."""
    path = Path(name or "").expanduser()
    return str(path.absolute()) if name and ("*" in name or path.exists()) else name


def _defaults(run: Run) -> dict[str, Any]:
    """What the engine gets where the user says nothing.

    Raises:
        ValueError: for Jobs, which see nothing of this machine, where something is only here.
    """
    engine, is_folder = run.options.executor, isinstance(run.output, Folder)
    if engine == "jobs":
        if is_folder or Path(run.options.dataset).exists():
            raise ValueError(
                "Jobs see nothing of this machine. Give the name of a dataset on the Hub, and for the output "
                "hf://datasets/ACCOUNT/NAME."
            )
        return {"logging_dir": f"{run.output}-logs", "dependencies": ["hf-faceenh[batch]"]}
    defaults: dict[str, Any] = {"logging_dir": str(run.output.path / "logs")} if is_folder else {}
    if engine == "local":
        defaults["workers"] = 1
    if engine == "slurm" and sys.prefix != sys.base_prefix:
        defaults["venv_path"] = f"{sys.prefix}/bin/activate"
    return defaults
