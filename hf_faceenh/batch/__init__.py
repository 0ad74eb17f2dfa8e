"""Whole collections of photographs, enhanced by as many processes and machines as there are.

    python -m hf_faceenh.batch --dataset SCANS --output ENHANCED --executor local --workers 2

The pictures of a `datasets` dataset are divided into shards. What is in a shard depends only on the dataset and
--shard-size; who makes it is for datatrove to say, for which every shard is a task (of a stream, every file). No
process waits for another, and a shard appears in the output whole or not at all: so after any stop the same command,
with any executor, makes what is missing. Two runs on one output do some work twice, and no harm.

In the output:

    options.json    what the run was started with; a run with others is refused
    README.md       a dataset card, by which `load_dataset` finds and reads the shards
    data/           the shards: Parquet files, or folders of pictures, each with a metadata.jsonl
    progress/       for each shard its counts and bad pictures, written last: a shard without this is made again
    failed.jsonl    the bad pictures of all shards; empty if there are none
    logs/           datatrove's: what every task has said

Several machines need a folder that they share, or a repository on the Hugging Face Hub.
"""
