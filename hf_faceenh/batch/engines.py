"""Who makes which shard, when, and again after what: datatrove, on this machine, SLURM, Ray or Hugging Face Jobs.

A task of the engine is one shard of a table, or one file of a stream. It is complete when its shards are in the output
with their records, whichever run, engine or process has put them there.
"""

import argparse
import contextlib
import inspect
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_type_hints

from datatrove.executor import JobsPipelineExecutor, LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor
from datatrove.executor.base import PipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.stats import PipelineStats, Stats
from loguru import logger
from tqdm import tqdm

from hf_faceenh.batch.output import Folder, open_output
from hf_faceenh.batch.process import GO_ON, Interrupted, Process, Stopped
from hf_faceenh.batch.run import Run, forget, opened
from hf_faceenh.batch.work import Work, noted
from hf_faceenh.commands import Parser

KILLED = 3  # times that workers may be killed without a task being completed
# What is no option of the user's: it is decided here, or would have a task done twice.
OURS = {"self", "pipeline", "tasks", "depends", "skip_completed", "job_id_retriever", "nodes_per_task"}
OURS |= {"start_method", "local_tasks", "local_rank_offset"}


class MakeShards(PipelineStep):
    """The only step of the pipeline: a task's shards.

    Args:
        args: the command line, with paths that hold on every machine.
    """

    name, type = "hf-faceenh", "🖼 - ENHANCER"

    def __init__(self, args: argparse.Namespace):
        super().__init__()
        self.args = args

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Makes the shards of the task `rank`; the counts become the engine's statistics.

        Raises:
            Stopped, Interrupted: as `Work.run`.
        """
        run = opened(self.args)
        self.stats = Stats(str(self))  # of this task alone
        try:
            with (
                run.output.staging() as staging,
                tqdm(
                    total=run.collection.size(rank),
                    desc=f"part {rank + 1} of {world_size}",
                    unit="picture",
                    disable=run.process.local_rank > 0,
                ) as bar,
            ):
                made = Work(run, rank, staging).run(bar)
        except Exception as error:
            noted(error)
            raise
        for name, count in made.items():
            self.stat_update(name, value=count)


class _ByShards:
    """What an executor takes for a task that is completed: one whose shards are whole."""

    def is_rank_completed(self, rank: int) -> bool:
        run = opened(self.pipeline[0].args)
        return run.collection.is_whole(rank, run.record)

    def get_incomplete_ranks(self, ranks: Iterable[int] | None = None, skip_completed: Any = None) -> list[int]:
        return opened(self.pipeline[0].args).left(range(self.world_size) if ranks is None else ranks)

    def mark_rank_as_completed(self, rank: int) -> None:
        """The record of its last shard has marked it."""


class LocalExecutor(_ByShards, LocalPipelineExecutor):
    """On this machine, in this process or in `workers` others. The pool of datatrove's own waits for ever where one of
    them is killed; here its task goes to another."""

    def run(self) -> None:
        """
        Raises:
            Stopped, Interrupted: as `Work.run`; the tasks that other processes have begun are finished before.
        """
        logger.disable("datatrove")  # but in the tasks' own logs
        process = Process.launched()
        ranks = self.get_incomplete_ranks(range(process.rank, self.tasks, process.world_size))
        if self.workers == 1:
            for rank in ranks:
                self._run_for_rank(rank)
            return
        killed = 0
        while ranks:
            try:
                self._share_out(ranks)
                return
            except BrokenProcessPool as error:
                left = self.get_incomplete_ranks(ranks)
                killed = killed + 1 if len(left) == len(ranks) else 1
                if killed == KILLED:
                    raise Stopped(f"Workers are killed {KILLED} times: is there too little memory? {GO_ON}") from error
                process.say("a worker was killed; another takes its place.")
                ranks = left

    def _share_out(self, ranks: Sequence[int]) -> None:
        context = multiprocessing.get_context("spawn")
        worker = (context.Value("i", 0),)
        pool = ProcessPoolExecutor(min(self.workers, len(ranks)), context, _begin_worker, worker)
        try:
            for done in as_completed([pool.submit(self._run_for_rank, rank) for rank in ranks]):
                done.result()
        except KeyboardInterrupt:
            for child in multiprocessing.active_children():
                child.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _begin_worker(count: Any) -> None:
    """Gives a worker its number, by which it finds its GPU, and ends it with the process that has started it."""
    with count.get_lock():
        os.environ["LOCAL_RANK"], count.value = str(count.value), count.value + 1
    logger.disable("datatrove")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which is for that process
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


class SlurmExecutor(_ByShards, SlurmPipelineExecutor):
    """Submits jobs to SLURM."""


class RayExecutor(_ByShards, RayPipelineExecutor):
    """On the Ray cluster of RAY_ADDRESS, or of this machine."""

    def run(self) -> None:
        """
        Raises:
            OSError: where Ray is not installed.
        """
        if not find_spec("ray"):
            raise OSError('--executor ray needs Ray: pip install "hf-faceenh[ray]"')
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told that it runs
        _complete_statistics(self)
        super().run()

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> PipelineStats:
        with _ending(os.getppid()):
            return super()._run_for_rank(rank, local_rank, node_rank)


class JobsExecutor(_ByShards, JobsPipelineExecutor):
    """As Jobs of Hugging Face."""

    def run(self) -> None:
        _complete_statistics(self)
        super().run()


@contextlib.contextmanager
def _ending(parent: int) -> Iterator[None]:
    """Ends the process `parent`, should this one be killed in the block. Ray's executor has every task done by a child
    of its actor, for which that would wait for ever; that an actor is gone is noticed, and another does the task."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(writing)
        if not os.read(reading, 1):
            os.kill(parent, signal.SIGKILL)
        os._exit(0)
    os.close(reading)
    try:
        yield
    finally:
        os.write(writing, b".")
        os.close(writing)


def _complete_statistics(executor: PipelineExecutor) -> None:
    """Ray's and Jobs' executors add up what every task has noted, in the end, and would fail where another engine has
    made a shard."""
    left = set(executor.get_incomplete_ranks())
    for rank in set(range(executor.world_size)) - left:
        if not executor.logging_dir.isfile(f"stats/{rank:05d}.json"):
            with executor.logging_dir.open(f"stats/{rank:05d}.json", "w") as file:
                PipelineStats([]).save_to_disk(file)


ENGINES = {"local": LocalExecutor, "slurm": SlurmExecutor, "ray": RayExecutor, "jobs": JobsExecutor}


def engine_options(name: str, words: Sequence[str]) -> dict[str, Any]:
    """An engine's own options, as its executor in datatrove documents them: `--cpus-per-task 4` is `cpus_per_task=4`.

    Args:
        name: one of `ENGINES`.
        words: of the command line, that are no options of the command.
    """
    executor = ENGINES[name].__mro__[2]
    parser = Parser(f"python -m hf_faceenh.batch --executor {name}", usage=argparse.SUPPRESS, add_help=False)
    kinds = get_type_hints(executor.__init__)
    for option, parameter in inspect.signature(executor.__init__).parameters.items():
        if option in OURS:
            continue
        required = parameter.default is parameter.empty
        kind = next((kind for kind in (str, bool, int, float) if kind is kinds.get(option)), None)
        read = _truth if kind is bool else kind or _value
        default = argparse.SUPPRESS
        parser.add_argument(f"--{option.replace('_', '-')}", type=read, required=required, default=default)
    return vars(parser.parse_args(words))


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text} is neither true nor false")
    return text.lower() == "true"


def _value(text: str) -> Any:
    """JSON, or else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def launch(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Has the run made, or this process's part of it; returns the exit status.

    Args:
        args: the command line.
        words: the rest of it, the engine's own options.

    Raises:
        ValueError, OSError: in one line, for options or data that do not fit, and what kept the work from being done.
    """
    options = engine_options(args.executor, words)
    places = {name: _everywhere(getattr(args, name)) for name in ("dataset", "model", "super_resolver")}
    places["output"] = str(open_output(args.output, args.private))
    args = argparse.Namespace(**vars(args) | places)
    forget()
    run = opened(args)
    options = _defaults(args, run) | options
    run.settle()
    executor = ENGINES[args.executor](pipeline=[MakeShards(args)], tasks=run.collection.tasks, **options)
    try:
        executor.run()
    except Interrupted as interruption:
        run.process.say(f"stopped by {interruption.args[0].name}. {GO_ON}")
        return 128 + interruption.args[0]
    if args.executor == "slurm" and run.left(range(run.collection.tasks)):
        run.process.say("submitted. Once the jobs have ended, the same command says what is there, and does the rest.")
        return 0
    return run.conclude()


def _everywhere(name: str | None) -> str | None:
    """A path as every process finds it, in whichever folder it starts; a name on the Hub as it is."""
    if name is None or not ("*" in name or Path(name).expanduser().exists()):
        return name
    return str(Path(name).expanduser().absolute())


def _defaults(args: argparse.Namespace, run: Run) -> dict[str, Any]:
    """What the engine gets where the user says nothing.

    Raises:
        ValueError: for Jobs, which see nothing of this machine, where something is only here.
    """
    is_folder = isinstance(run.output, Folder)
    options: dict[str, Any] = {"logging_dir": str(run.output.path / "logs")} if is_folder else {}
    if args.executor == "local":
        options["workers"] = 1
    if args.executor == "slurm" and sys.prefix != sys.base_prefix:
        options["venv_path"] = f"{sys.prefix}/bin/activate"
    if args.executor == "jobs":
        if is_folder or Path(args.dataset).exists():
            raise ValueError(
                "Jobs see nothing of this machine. Give the name of a dataset on the Hub, and for the output "
                "hf://datasets/ACCOUNT/NAME."
            )
        options |= {"logging_dir": f"{run.output}-logs", "dependencies": ["hf-faceenh[batch]"]}
    return options
