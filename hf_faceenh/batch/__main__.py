"""The command that `hf_faceenh.batch` describes."""

import argparse
import sys

from hf_faceenh import commands
from hf_faceenh.loading import check_installed

EXTRA = "datasets datatrove fsspec jsonargparse loguru pyarrow".split()
ENGINES = """\
Each executor takes the options of datatrove's executor of that name; what is no plain value is JSON. Among them:
  --executor local --workers 2
  --executor slurm --partition gpu --time 8:00:00 --gpus-per-task 1 --cpus-per-task 8 --mem-per-cpu-gb 4
                   --workers 16 --tasks-per-job 4 --sbatch-args '{"account": "faces"}'
  --executor ray --workers 8 --gpus-per-task 1 --cpus-per-task 4 --mem-per-cpu-gb 4
  --executor jobs --flavor a10g-small --workers 8 --dependencies '["hf-faceenh[batch]"]'
On the GPUs of one machine also: accelerate launch -m hf_faceenh.batch ...
"""


def _parser() -> argparse.ArgumentParser:
    parser = commands.Parser(
        "python -m hf_faceenh.batch",
        description="Enhance a whole collection of photographs, shard by shard. Started again, it goes on.",
        epilog=ENGINES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    pictures = "a folder of pictures, Parquet or WebDataset (.tar) files, one such file, or a dataset on the Hub"
    add("--dataset", required=True, metavar="NAME_OR_FOLDER", help=pictures)
    where = "a folder, or hf://datasets/ACCOUNT/NAME: a repository on the Hub, made if missing; all machines reach it"
    add("--output", required=True, metavar="DIR_OR_REPO", help=where)
    add("--split", default="train", help="which part of the dataset (train)")
    add("--streaming", action="store_true", help="read the dataset as it comes, instead of downloading it first")
    add("--column", metavar="NAME", help="the column of the pictures, if there are several and none is called image")
    shards = "what a shard is: a Parquet file (parquet), or a folder of pictures with a metadata.jsonl (imagefolder)"
    add("--format", default="parquet", choices=("parquet", "imagefolder"), help=shards)
    size = "pictures in a shard (1000): a process that was stopped does at most that many again"
    add("--shard-size", type=commands.number(int, 1), default=1000, metavar="N", help=size)
    add("--private", action="store_true", help="make a private repository")
    commands.add_model_options(parser)
    commands.add_pipeline_options(parser)
    commands.add_saving_options(parser)
    add("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    commands.add_backend_option(parser)
    at_once = "pictures that are enhanced at once (8); fewer need less memory"
    add("--batch-size", type=commands.number(int, 1), default=8, metavar="N", help=at_once)
    engines = "who runs it: processes of this machine (local), a cluster (slurm, ray), Jobs of Hugging Face (jobs)"
    add("--executor", default="local", choices=("local", "slurm", "ray", "jobs"), help=engines)
    add("--retry-failed", action="store_true", help="also make the shards again that have bad pictures")
    workers = "threads of each process that decode and encode pictures (4)"
    add("--num-workers", type=commands.number(int, 1), default=4, metavar="N", help=workers)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Has the run made, or this process's part of it; returns the exit status."""
    args, words = _parser().parse_known_args(argv)
    return commands.quietly(lambda: _run(args, words))


def _run(args: argparse.Namespace, words: list[str]) -> int:
    check_installed("batch", "whole collections", *EXTRA)
    from hf_faceenh.batch.engines import launch

    return launch(args, words)


if __name__ == "__main__":
    sys.exit(main())
