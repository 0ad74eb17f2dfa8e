"""`hf-faceenh enhance`, `models`, `convert`, `info` and `export`.

The heavy libraries are imported inside the functions that need them, so that `--help` and a mistake on the command
line are answered at once.
"""

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_faceenh.allocator import keep_freed_memory
from hf_faceenh.catalogue import PUBLISHED
from hf_faceenh.commands import (
    Parser,
    add_backend_option,
    add_license_option,
    add_model_options,
    add_pipeline_options,
    add_saving_options,
    model_options,
    pipeline_options,
    quietly,
    saving_options,
)
from hf_faceenh.errors import plain
from hf_faceenh.faults import Fault, described, fault_of, short_of_memory
from hf_faceenh.fetching import fetch, is_here
from hf_faceenh.files import check_empty, why_unreadable
from hf_faceenh.jobs import all_faces, enhance_one, remark
from hf_faceenh.loading import (
    check_backend,
    check_installed,
    check_model,
    check_pipeline,
    check_super_resolver,
    load_pipeline,
    load_single,
)
from hf_faceenh.planning import Job, plan, refusals
from hf_faceenh.provenance import version
from hf_faceenh.results import read_results
from hf_faceenh.sources import STREAM, find, passed_over

if TYPE_CHECKING:
    from tqdm import tqdm


def enhance(args: argparse.Namespace) -> int:
    pictures, over = find(args.pictures, args.output)
    jobs = plan(pictures, args.output, args.compare, args.save_faces)
    if args.json and jobs[0].result is None:
        raise ValueError("--json and the picture would both go to the standard output. Name a file with -o.")
    check_pipeline(args.model)
    check_super_resolver(args.super_resolver)
    check_backend(args.model, args.backend, args.device, args.dtype)
    keep = args.skip_existing or (not args.overwrite and any(map(os.path.isdir, args.pictures)))  # a folder goes on
    done = {job for job in jobs if keep and job.is_done()}
    to_do = [job for job in jobs if job not in done]
    refused = refusals(to_do, args.overwrite or keep)
    which = {"device": args.device, "dtype": args.dtype, "backend": args.backend} | model_options(args)
    keep_freed_memory()
    pipe = load_pipeline(**which) if to_do and not refused else None
    if pipe:
        pipe.set_progress_bar_config(disable=len(jobs) > 1)
    options, saving = pipeline_options(args), saving_options(args)
    written, failed, start = 0, 0, time.perf_counter()
    with _progress(jobs) as bar:
        write = getattr(bar, "write", print)
        for job in bar:
            record: dict[str, Any] = {"input": str(job.picture), "output": str(job.result or STREAM)}
            said, stopped = None, False
            try:
                if job in refused:
                    raise refused[job]
                if job in done:
                    record["skipped"] = True
                else:
                    record |= enhance_one(pipe, job, options, saving, args.overwrite, keep)
                    written += 1
                    said = "; ".join(filter(None, (record.get("remark"), remark(all_faces(record)))))
            except BrokenPipeError:
                raise
            except Exception as error:
                said = record["error"] = described(error)
                failed += 1
                stopped = _stops(error, job)
            if said:
                write(_named(job.picture, said), file=sys.stderr)
            if args.json:
                print(json.dumps(record), flush=True)
            if stopped:
                break
    if over:
        print(passed_over(over), file=sys.stderr)
    seconds, there = time.perf_counter() - start, f"{len(done)} already there, " if done else ""
    left = ", the others not tried" if stopped else ""
    counts = f"{written} of {len(jobs)} pictures written to {_place(jobs, args.output)} in {seconds:.1f} s"
    print(f"{counts}, {there}{failed} failed{left}", file=sys.stderr)
    return 1 if failed else 0


def _stops(error: Exception, job: Job) -> bool:
    """Whether the other pictures would fail as well: for want of anything but this one picture, or memory for it."""
    if fault_of(error) is not Fault.ENVIRONMENT or short_of_memory(error):
        return False
    return isinstance(job.picture, str) or os.access(job.picture, os.R_OK)


def _place(jobs: list[Job], output: str | None) -> str:
    """Where the results are, in words."""
    if jobs[0].result is None:
        return "the standard output"
    if output is not None or len(jobs) == 1:
        return output or str(jobs[0].result)
    folders = {job.result.parent for job in jobs}
    return f"{len(folders)} folders" if len(folders) > 1 else str(folders.pop())


def _progress(jobs: list[Job]) -> "contextlib.AbstractContextManager[list[Job] | tqdm]":
    """The jobs; if there are several, with a bar that shows how many are done."""
    if len(jobs) == 1:
        return contextlib.nullcontext(jobs)
    from tqdm import tqdm

    return tqdm(jobs, unit="picture")


def _named(picture: Path | str, remark: str) -> str:
    name = plain(str(picture))
    return f"hf-faceenh: {remark}" if name in remark else f"hf-faceenh: {name}: {remark}"


def convert(args: argparse.Namespace) -> int:
    source, target = Path(args.source), Path(args.target)
    # The library checks the same; this is before torch is imported.
    if target.exists():
        raise FileExistsError(f"{target} exists already; choose another target, or remove it first.")
    for file in filter(None, (source, args.weak)):
        if reason := why_unreadable(Path(file)):
            raise OSError(f"{file}: {reason}.")
    from hf_faceenh.components import licence, parameters
    from hf_faceenh.convert import convert

    folder = convert(source, target, args.weak)
    (model,) = load_single(folder).values()
    print(f"{folder}: {type(model).__name__}, {parameters(model)} parameters\nLicence: {licence(model)}")
    return 0


def info(args: argparse.Namespace) -> int:
    check_model(args.model)
    from hf_faceenh.components import component_rows

    components = load_single(args.model, accept_license=args.accept_license)
    components = components or load_pipeline(args.model, "cpu").components
    _print_table([("component", "class", "parameters", "GMAC", "licence"), *component_rows(components)])
    return 0


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def list_models(args: argparse.Namespace) -> int:
    rows = [("name", "family", "component", "size", "MB", "licence", "from", "here")]
    for one in PUBLISHED:
        source = one.source.url if one.is_downloadable else f"your own file: {one.source.url}"
        row = (one.name, one.family, one.role, one.size, str(one.megabytes), one.license, source)
        rows.append((*row, "yes" if is_here(one) else "no"))
    _print_table(rows)
    return 0


def get_model(args: argparse.Namespace) -> int:
    print(fetch(args.name, args.accept_license, args.file))
    return 0


def export(args: argparse.Namespace) -> int:
    check_empty(Path(args.folder).resolve())
    results = read_results(args.results) if args.results else None
    check_pipeline(args.model)
    check_super_resolver(args.super_resolver)
    if args.onnx:
        check_installed("onnx", "ONNX", "onnx", "onnxruntime")
    if args.push:
        from huggingface_hub.utils import validate_repo_id

        validate_repo_id(args.push)
    from hf_faceenh import hub

    repo_id = hub.full_name(args.push) if args.push else None
    pipe = load_pipeline(device="cpu", **model_options(args))
    folder = hub.export(args.folder, pipe, results, repo_id=repo_id, onnx=args.onnx)
    print(f"{folder}: {sum(file.stat().st_size for file in folder.rglob('*')) / 1e6:.1f} MB", flush=True)
    if repo_id:
        print(hub.push(folder, repo_id, private=args.private or None))
    return 0


class Version(argparse.Action):
    """Looks up the version only when it is asked for: the look-up takes as long as the rest of the start."""

    def __call__(self, parser, namespace, values, option_string=None):
        print(parser.prog, version() or "(not installed)")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = Parser("hf-faceenh", description="Enhance the faces of photographs.")
    parser.add_argument("--version", action=Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("enhance", help="enhance the faces of photographs, and super-resolve the rest")
    command.set_defaults(run=enhance)
    add = command.add_argument
    pictures = "a URL will do, and - is the standard input; folders are walked"
    add("pictures", nargs="+", metavar="PICTURE|FOLDER|GLOB", help=pictures)
    out = "a file for one picture, a folder, made if missing, or - (the standard output); default: NAME_enhanced"
    add("-o", "--output", metavar="OUT", help=out)
    add_model_options(command)
    add_pipeline_options(command)
    add_saving_options(command)
    add("--save-faces", action="store_true", help="also write the crops of all faces, before and after, into faces/")
    add("--compare", action="store_true", help="also write a before/after picture, NAME_compare")
    add("--json", action="store_true", help="print one JSON line per picture")
    add("--device", default="auto", choices=("auto", "cuda", "mps", "cpu"))
    add("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    add_backend_option(command)
    add = command.add_mutually_exclusive_group().add_argument
    add("--overwrite", action="store_true", help="replace files that exist")
    add("--skip-existing", action="store_true", help="leave files that exist as they are, as for a folder")

    command = commands.add_parser("models", help="list the published weights that are known by name, or get one")
    command.set_defaults(run=list_models)
    actions = command.add_subparsers(metavar="get")
    command = actions.add_parser("get", help="download, check and convert one, for --model and --super-resolver")
    command.set_defaults(run=get_model)
    command.add_argument("name", metavar="NAME")
    command.add_argument("--file", metavar="FILE", help="the published file, if you have it")
    add_license_option(command)

    command = commands.add_parser("convert", help="convert a published checkpoint into a folder for --model")
    command.set_defaults(run=convert)
    command.add_argument("source", metavar="SOURCE", help="a .pth, .safetensors, .onnx or .dat file")
    command.add_argument("target", metavar="TARGET", help="the folder to make")
    weak = (
        "beside realesr-general-x4v3.pth: realesr-general-wdn-x4v3.pth, which makes one that takes --denoise of both"
    )
    command.add_argument("--weak", metavar="FILE", help=weak)

    command = commands.add_parser("info", help="list components, parameters, multiply-accumulates and licences")
    command.set_defaults(run=info)
    command.add_argument("model", nargs="?", metavar="MODEL", help="as --model of enhance; the bundled one by default")
    add_license_option(command)

    command = commands.add_parser("export", help="write a model repository for the Hugging Face Hub, and push it")
    command.set_defaults(run=export)
    add = command.add_argument
    add("folder", metavar="DIR", help="the folder to make")
    add_model_options(command)
    add("--results", metavar="FILE", help="results.json of training/evaluate.py, for the model card's figures")
    onnx = "also write the networks as ONNX files, in both precisions, and check them against torch (a minute or two)"
    add("--onnx", action="store_true", help=onnx)
    add("--push", metavar="REPO_ID", help="then upload it to this repository, which is made if missing")
    add("--private", action="store_true", help="make a private one")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    args = _parser().parse_args(argv)
    return quietly(lambda: args.run(args))


if __name__ == "__main__":
    sys.exit(main())
