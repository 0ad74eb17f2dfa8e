"""The command that `hf_faceenh.batch` describes."""

import argparse
import sys

from hf_faceenh.commands import Parser, add_backend_option, add_pipeline_options, add_saving_options, number, quietly

EXTRA = {"datasets", "fsspec", "pyarrow"}  # what an installation without the extra `batch` may lack


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "python -m hf_faceenh.batch",
        description="Enhance a whole collection of photographs, shard by shard. Started again, it goes on.",
        epilog="On several GPUs or machines: accelerate launch -m hf_faceenh.batch …; on several CPU processes: "
        "torchrun --nproc_per_node N -m hf_faceenh.batch …",
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
    add("--shard-size", type=number(int, 1), default=1000, metavar="N", help=size)
    add("--private", action="store_true", help="make a private repository")
    add(
        "--model",
        metavar="ID_OR_FOLDER",
        help="a pipeline, a folder with one model that hf-faceenh convert made, or fast",
    )
    add_pipeline_options(parser)
    add_saving_options(parser)
    add("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    add_backend_option(parser)
    at_once = "pictures that are enhanced at once (8); fewer need less memory"
    add("--batch-size", type=number(int, 1), default=8, metavar="N", help=at_once)
    workers = "threads of each process that decode and encode pictures (4)"
    add("--num-workers", type=number(int, 1), default=4, metavar="N", help=workers)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Does this process's part; returns the exit status."""
    args = _parser().parse_args(argv)
    return quietly(lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    try:
        from hf_faceenh.batch.run import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            raise
        message = f'There is no {error.name}, which whole collections need: pip install "hf-faceenh[batch]"'
        raise OSError(message) from error
    return run(args)


if __name__ == "__main__":
    sys.exit(main())
