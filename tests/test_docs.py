"""The pages that users read: their links, commands, names and settings are true, and what is marked is run.

A block of code after `<!-- run -->` is run here, those of one page in order and in one folder, with small files under
the names that the page uses. Commands are split as a shell would, and run in this process.
"""

import contextlib
import importlib
import inspect
import io
import json
import os
import re
import runpy
import shlex
import shutil
import signal
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import yaml
from accelerate.commands.launch import launch_command_parser
from accelerate.state import AcceleratorState
from datasets import load_dataset
from nbclient import NotebookClient
from PIL import Image
from safetensors.torch import load_file
from tiny import SMALL, tiny_enhancer
from torch.distributed.run import get_args_parser

from hf_faceenh import FaceRecognizer, cli
from hf_faceenh.learning.options import TrainingOptions
from hf_faceenh.models.recognizer import FaceRecognizerConfig

ROOT = Path(__file__).parents[1]
DOCS = ["README.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md"))]
PAGES = [*DOCS, "training/README.md", "space/README.md"]
METHOD = "docs/how_it_works.md"
# What must stand in the line before a block of commands or Python, and says whether it was run.
MARKS = r"run|by hand|not run: .+|command: (enhance|test)"
# Programs that are not ours.
OTHERS = {"pip", "hf"}
TOOLS = ["training/" + path.name for path in (ROOT / "training").glob("*.py")]
# Put behind a command, to be done in seconds; the last word counts.
QUICK = {
    "training/train.py": [
        *("--enhancer", json.dumps(SMALL), "--rounds", "2", "--steps_per_round", "2", "--first_reduction", "1"),
        *("--tune_rounds", "1", "--batch_size", "2", "--assessed_faces", "2", "--num_workers", "0"),
        *("--reduction.target", "0.8", "--reduction.multiple", "1", "--reduction.calibration", "2"),
        *("--discriminator.narrow", "0.03"),
    ],
    "training/compare_blind.py": ["--faces", "2"],
    "training/prepare_faces.py": ["--size", "64", "--min_source_px", "50"],
}
# What the commands of a page find when they begin; see `stock`.
NEEDED = {
    "README.md": "photo.jpg old.jpg scans faces GPEN-BFR-512.pth",
    "docs/enhance.md": "photo.jpg moving.gif scans",
    "docs/train.md": "photo.jpg photographs others recognizer earlier",
    "docs/compress.md": "photo.jpg faces others degraded recognizer GPEN-BFR-512.pth",
    "docs/deploy.md": "photo.jpg scans run",
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and what the comment before it says (`mark`)."""

    page: str
    line: int
    mark: str
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}, line {self.line}"


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    text = read(page)
    fences = re.finditer(r"^(?:<!-- ([^\n]*) -->\n)?```(\w*)\n(.*?)^```$", text, re.M | re.S)
    return [
        Block(page, text.count("\n", 0, fence.start()) + 1, fence[1] or "", fence[2], fence[3]) for fence in fences
    ]


def prose(page: str) -> str:
    """The page without its blocks."""
    return re.sub(r"^```.*?^```$", "", read(page), flags=re.M | re.S)


def inline_code(page: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


# Links


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    for link in links:
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page} links to {link}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.M)
            assert anchor in map(slug, headings), f"{page} links to {link}"


def test_every_page_can_be_reached_from_the_readme():
    linked = re.findall(r"\]\((docs/[^)#\s]+)", read("README.md"))
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "docs").iterdir()} == set(linked)


# Commands: what they name exists


def commands(text: str) -> list[list[str]]:
    """The words of each command; those of comments and variables (`NAME=value` before a command) left out."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r" && ", line):
            words = shlex.split(part, comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):
                words = words[1:]
            if words:
                found.append(words)
    return found


def parts(words: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The programs that a command runs, each with its arguments: launchers, and what they launch."""
    program, *rest = words
    if program == "srun":
        yield from parts(shlex.split(rest[-1]))
    elif program in ("python", "accelerate", "torchrun"):
        start = next((index for index, word in enumerate(rest) if word == "-m" or word.endswith(".py")), len(rest))
        if program != "python":
            yield program, rest[:start]
        launched = [word for word in rest[start:] if word != "-m"]
        if launched:
            yield launched[0], launched[1:]
    else:
        yield f"training/{program}" if program.endswith(".py") else program, rest


@cache
def script(tool: str) -> dict:
    """What a file, or a module for `python -m`, defines."""
    if not tool.endswith(".py"):
        return runpy.run_module(tool)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str((ROOT / tool).parent))  # as Python does: a script imports what lies beside it
        return runpy.run_path(str(ROOT / tool))


def main_of(tool: str) -> Callable[[list[str]], int | None]:
    return cli.main if tool == "hf-faceenh" else script(tool)["main"]


@cache
def options(tool: str, *subcommand: str) -> set[str]:
    """All options in the tool's help."""
    if tool == "accelerate":  # whose help leaves out what does not fit this machine
        return set(launch_command_parser()._option_string_actions)
    if tool == "torchrun":
        text = get_args_parser().format_help()
    else:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main_of(tool)([*subcommand, "--help"])
        text = printed.getvalue()
    return set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w.-]*", text))


def check_options(words: list[str], where: str) -> None:
    for tool, arguments in parts(words):
        if tool in OTHERS or tool == "space/app.py":
            continue
        subcommand = arguments[:1] if tool == "hf-faceenh" and not arguments[0].startswith("-") else []
        if arguments[:2] == ["models", "get"]:
            subcommand = ["models", "get"]
        known = options(tool, *subcommand)
        assert known, f"{where}: there is no {tool} {' '.join(subcommand)}"
        given = {word.partition("=")[0] for word in arguments if re.match("--?[a-zA-Z]", word)}
        assert given <= known, f"{where}: {tool} has no {', '.join(given - known)}"


@pytest.mark.parametrize("page", PAGES)
def test_every_option_of_a_command_exists(page):
    for block in blocks(page):
        if block.language == "bash" and not block.mark.startswith("command"):
            for words in commands(block.text):
                check_options(words, str(block))
    anywhere = {"-h"}.union(*(options(tool) for tool in [*TOOLS, "hf_faceenh.batch", "accelerate"]))
    anywhere |= {"--version"}.union(*(options("hf-faceenh", name) for name in "enhance convert info export".split()))
    anywhere |= options("hf-faceenh", "models", "get")
    for code in inline_code(page):
        if code.startswith("--"):
            assert code.split()[0].partition("=")[0] in anywhere, f"{page}: no program has {code}"
        elif re.match(r"(hf-faceenh|accelerate|python|torchrun|srun|train\w*\.py) ", code):
            for words in commands(code):
                check_options(words, f"{page}: {code}")


@pytest.mark.parametrize("page", DOCS)
def test_every_block_says_whether_it_was_run(page):
    for block in blocks(page):
        assert block.language in ("bash", "python", "bibtex", "math"), block
        assert block.language in ("bibtex", "math") or re.fullmatch(MARKS, block.mark), block
        if block.language == "python":
            compile(block.text, str(block), "exec")


# Commands: they work


@pytest.fixture(scope="module")
def stock(astronaut, tmp_path_factory) -> Path:
    """Small files of every kind that a page may ask for."""
    folder = tmp_path_factory.mktemp("stock")
    portrait = Image.open(astronaut).convert("RGB")
    small = portrait.resize((128, 128), Image.Resampling.LANCZOS)
    small.save(folder / "photo.jpg")
    small.save(folder / "old.jpg")
    small.save(folder / "moving.gif", save_all=True, append_images=[small.rotate(5)], duration=100)
    (folder / "scans" / "1945").mkdir(parents=True)
    small.save(folder / "scans" / "1932.jpg")
    small.convert("L").save(folder / "scans" / "1945" / "wedding.png")
    for name in "photographs faces others degraded/mild degraded/severe".split():
        (folder / name).mkdir(parents=True)
    face = portrait.crop((140, 30, 300, 190))
    for index in range(4):
        turned = portrait.rotate(3 * index, Image.Resampling.BICUBIC)
        turned.resize((256, 256)).save(folder / "photographs" / f"{index}.jpg")
        face.rotate(3 * index).resize((64, 64)).save(folder / "faces" / f"{index}.png")
    for index in range(2):
        face.rotate(-3 * index).resize((64, 64)).save(folder / "others" / f"{index}.jpg")
        for level, side in (("mild", 32), ("severe", 16)):
            face.rotate(-3 * index).resize((side, side)).save(folder / "degraded" / level / f"{index}.jpg")
    config = FaceRecognizerConfig(embedding_size=8, stem_channels=4, stage_channels=[4], stage_blocks=[1])
    FaceRecognizer(config).save_pretrained(folder / "recognizer")
    for run in ("run", "earlier"):
        tiny_enhancer(64).save_pretrained(folder / run / "enhancer")
    gpen = ROOT / "tests" / "data" / "golden" / "gpen_generator" / "weights.safetensors"
    torch.save({"g_ema": load_file(gpen)}, folder / "GPEN-BFR-512.pth")
    return folder


@pytest.fixture
def workplace(stock, tmp_path, monkeypatch) -> Callable[[str], Path]:
    """Goes to a folder with what a page needs, beside what a clone holds."""
    handler = signal.getsignal(signal.SIGTERM)  # train.py sets its own
    monkeypatch.chdir(tmp_path)

    def prepared(page: str) -> Path:
        for name in ("training", "examples", "space"):
            os.symlink(ROOT / name, tmp_path / name)
        for name in NEEDED[page].split():
            source = stock / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
        return tmp_path

    yield prepared
    signal.signal(signal.SIGTERM, handler)


def run_command(words: list[str], model: str) -> None:
    """`enhance` with the pipeline in `model`, unless it names one."""
    *_, (tool, arguments) = parts(words)
    AcceleratorState._reset_state(reset_partial_state=True)  # each command has a process of its own elsewhere
    quick = QUICK.get(tool, [])
    if (tool, *arguments[:1]) == ("hf-faceenh", "enhance") and "--model" not in arguments:
        quick = ["--model", model]
    assert not main_of(tool)([*arguments, *quick]), shlex.join(words)


@pytest.mark.parametrize("page", NEEDED)
def test_what_is_marked_runs(page, workplace, model):
    folder = workplace(page)
    names = {"__name__": "docs"}
    for block in blocks(page):
        if block.mark != "run":
            continue
        if block.language == "python":
            exec(compile(block.text, str(block), "exec"), names)
        else:
            for words in commands(block.text):
                run_command(words, model)
    CHECKS[page](folder)


def check_readme(folder: Path) -> None:
    assert Image.open(folder / "restored" / "1945" / "wedding.png").size == (512, 512)
    assert Image.open(folder / "new_compare.jpg").size == (512, 256) and list(folder.glob("faces/new_face_0*"))
    assert (folder / "run" / "enhancer" / "config.json").exists() and (folder / "gpen-512").is_dir()


def check_enhance(folder: Path) -> None:
    assert Image.open(folder / "look_compare.jpg").size == (512, 256)
    assert Image.open(folder / "listed" / "1945" / "wedding.png").mode == "L"
    assert (folder / "face.png").exists() and (folder / "my-pipeline" / "model_index.json").exists()


def check_train(folder: Path) -> None:
    rounds = [json.loads(line) for line in (folder / "run" / "rounds.jsonl").read_text().splitlines()]
    names = "losses factor coefficients reduction validation".split()  # of which the page speaks
    assert all(name in line for line in rounds for name in names)
    assert {"settled", "kept"} <= rounds[0]["reduction"]["layers"][0].keys()
    assert {"psnr", "input_psnr"} <= rounds[0]["validation"].keys() and "pixel" in rounds[0]["losses"]
    left = {path.name for path in (folder / "run").iterdir()}
    assert {"options.yaml", "rounds.jsonl", "samples", "checkpoints", "enhancer"} <= left
    assert (folder / "first" / "run.png").exists()
    measured = {path.name for path in (folder / "measured").iterdir()}
    assert measured == {"results.md", "results.json", "mild.png", "severe.png", "extremes.png"}


def check_compress(folder: Path) -> None:
    results = json.loads((folder / "measured" / "results.json").read_text())
    assert results["models"]["small/enhancer"]["macs"] < results["models"]["gpen-512"]["macs"]
    config = json.loads((folder / "small" / "enhancer" / "config.json").read_text())
    assert config["_class_name"] == "GPENFaceEnhancer" and "Non-commercial" in config["license"]
    card = (folder / "small-faces" / "README.md").read_text()
    assert "| mild | PSNR in dB" in card and "Non-commercial" in card
    assert json.loads((folder / "student" / "enhancer" / "config.json").read_text())["_class_name"] == "FaceEnhancer"


def check_deploy(folder: Path) -> None:
    assert Image.open(folder / "served.png").size == (256, 256)
    assert (folder / "my-small-faces" / "handler.py").exists()
    rows = load_dataset(str(folder / "restored"), split="train", cache_dir=str(folder / "cache"))
    assert len(rows) == 2 and {row["image"].size for row in rows} == {(256, 256)}


CHECKS = {
    "README.md": check_readme,
    "docs/enhance.md": check_enhance,
    "docs/train.md": check_train,
    "docs/compress.md": check_compress,
    "docs/deploy.md": check_deploy,
}


def test_the_readmes_two_commands_are_where_tools_look_for_them():
    marks = [block.mark for block in blocks("README.md") if block.mark.startswith("command")]
    assert marks == ["command: enhance", "command: test"]


# The method's page: names and settings


def resolve(name: str) -> object:
    """What a dotted name stands for: `Trainer.…` of training/train.py, or something below hf_faceenh."""
    head, *rest = name.split(".")
    trainer = script("training/train.py")["Trainer"]
    found = trainer if head == "Trainer" else importlib.import_module(f"hf_faceenh.{head}")
    for part in rest:
        if inspect.ismodule(found) and not hasattr(found, part):
            found = importlib.import_module(f"{found.__name__}.{part}")
        else:
            found = getattr(found, part)
    return found


def setting(name: str) -> object:
    """The value of a name in the table of settings: an option of train.py, or a constant."""
    group, _, option = name.partition(".")
    if group in ("curriculum", "reduction", "loss"):
        return getattr(getattr(TrainingOptions(dataset="", output_dir=Path()), group), option)
    return resolve(name)


def test_every_name_of_the_method_exists():
    modules = "|".join(path.stem for path in (ROOT / "hf_faceenh").iterdir() if path.name[0] not in "_.")
    names = [code for code in inline_code(METHOD) if re.fullmatch(rf"({modules}|Trainer)(\.\w+)+", code)]
    names = [name for name in names if not name.endswith(".py")]
    assert len(names) > 40
    for name in names:
        resolve(name)
    paths = [code for code in inline_code(METHOD) if re.fullmatch(r"[\w/]+(\.py|/)", code)]
    assert paths and all((ROOT / path).exists() for path in paths)


def test_the_table_of_settings_is_the_codes():
    rows = re.findall(r"^\|[^|]*\| `([\w.]+)` \| ([\d.(), ]+?) \|$", read(METHOD), re.M)
    assert len(rows) > 15
    for name, value in rows:
        assert setting(name) == pytest.approx(eval(value)), name


# The notebook


def test_the_notebook_runs_and_is_kept_without_outputs(tmp_path, monkeypatch):
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    notebook = nbformat.read(ROOT / "docs" / "quickstart.ipynb", as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
    for link in re.findall(r"\]\(([^)\s]+)\)", "".join(cell.source for cell in notebook.cells)):
        assert (ROOT / "docs" / link).exists()

    (tmp_path / "docs").mkdir()
    os.symlink(ROOT / "examples", tmp_path / "examples")
    resources = {"metadata": {"path": str(tmp_path / "docs")}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    shown = [output for cell in cells for output in cell.outputs if "image/png" in output.get("data", {})]
    printed = "".join(output.text for cell in cells for output in cell.outputs if output.get("name") == "stdout")
    assert len(shown) == 4 and re.search(r"score 0\.\d+ enhanced", printed)
    with Image.open(tmp_path / "docs" / "enhanced.png") as saved:
        assert saved.size == (512, 512) and np.asarray(saved).std() > 10
    assert (tmp_path / "out" / "my-pipeline" / "model_index.json").exists()


# Citing


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load(read("CITATION.cff"))
    project = tomllib.loads(read("pyproject.toml"))["project"]
    assert citation["version"] == project["version"] and citation["license"] == project["license"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert f"## {project['version']} " in read("CHANGELOG.md")
    assert f"version = {{{project['version']}}}" in read("README.md") and citation["title"] in read("README.md")
