"""Published weights by name, from a server on this machine."""

import hashlib
import http.server
import subprocess
import sys
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from checkpoints import golden, saved

from hf_faceenh import FaceEnhancePipeline, SuperResolver, catalogue, cli, fetching
from hf_faceenh.catalogue import PUBLISHED, Published, Source
from hf_faceenh.convert import load_published
from hf_faceenh.loading import load_pipeline

NAME = "realesrgan-small"


class Authors:
    """Where files are published: `url` of the folder, the paths that were asked for, and what goes wrong."""

    def __init__(self, folder):
        self.folder, self.asked, self.cut_short = folder, [], False
        authors = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                name = urllib.parse.unquote(self.path.lstrip("/"))
                authors.asked.append(name)
                file = authors.folder / name
                if not file.is_file():
                    return self.send_error(404)
                content = file.read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if authors.cut_short else content)

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def source(self, name, state):
        file = saved({"params_ema": state}, self.folder / name)
        return Source(f"{self.url}/{name}", hashlib.sha256(file.read_bytes()).hexdigest())


@pytest.fixture
def authors(tmp_path):
    (tmp_path / "published").mkdir()
    authors = Authors(tmp_path / "published")
    thread = threading.Thread(target=authors.server.serve_forever)
    thread.start()
    yield authors
    authors.server.shutdown()
    thread.join()
    authors.server.server_close()


@pytest.fixture
def small(authors, tmp_path, monkeypatch):
    """A super-resolver that is in the catalogue by the name `NAME`."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    source = authors.source("small.pth", golden("rrdb_x2"))
    published = Published(NAME, "Real-ESRGAN", "super_resolver", "×2", 1, "BSD-3-Clause", source)
    monkeypatch.setitem(catalogue.BY_NAME, NAME, published)
    return published


def others(folder):
    """What is in a folder beside the locks, which stay."""
    return [entry.name for entry in folder.iterdir() if entry.suffix != ".lock"]


def refused(name, match, kind=(ValueError, OSError), **options):
    with pytest.raises(kind, match=match) as raised:
        fetching.fetch(name, **options)
    assert "\n" not in str(raised.value)
    assert not fetching.home().exists() or others(fetching.home()) == []


def test_it_is_downloaded_and_converted_once(small, authors, tmp_path):
    folder = fetching.fetch(NAME)
    assert folder == tmp_path / "home/hf_faceenh" / NAME and fetching.is_here(small)
    state = SuperResolver.from_pretrained(folder).state_dict()
    assert all(torch.equal(value, state[key]) for key, value in golden("rrdb_x2").items())
    assert others(fetching.home()) == [NAME]
    assert fetching.fetch(NAME) == folder and authors.asked == ["small.pth"]
    authors.server.server_close()
    assert fetching.fetch(NAME) == folder  # offline


def test_two_at_once_download_it_once(small, authors):
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(fetching.fetch, [NAME, NAME]))
    assert folders[0] == folders[1] and authors.asked == ["small.pth"]


def test_what_a_killed_process_left_behind_goes(small):
    left = fetching.home() / f".{NAME}.x7k2"
    left.mkdir(parents=True)
    (left / "small.pth").write_bytes(bytes(10))
    fetching.fetch(NAME)
    assert others(fetching.home()) == [NAME]


def test_another_file_than_the_published_one(small, authors, monkeypatch):
    saved({"params_ema": golden("rrdb_x4")}, authors.folder / "small.pth")
    refused(NAME, f"from {authors.url}/small.pth is not the published file", ValueError)


def test_a_file_that_has_moved(small, authors):
    (authors.folder / "small.pth").unlink()
    refused(NAME, f"small.pth answers 404.*hf-faceenh models get {NAME} --file FILE", OSError)


def test_a_connection_that_breaks_off(small, authors):
    authors.cut_short = True
    refused(NAME, "small.pth did not come through: .*Try again", OSError)


def test_a_server_that_is_not_there(small, authors, monkeypatch):
    source = Source("http://127.0.0.1:9/small.pth", small.source.sha256)
    monkeypatch.setitem(catalogue.BY_NAME, NAME, replace(small, source=source))
    refused(NAME, "did not come through", OSError)


def test_a_full_disk(small, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", full)
    refused(NAME, f"{NAME} could not be fetched: .*No space left on device", OSError)


def test_a_licence_that_does_not_allow_every_use_is_accepted_once(small, authors, monkeypatch):
    monkeypatch.setitem(catalogue.BY_NAME, NAME, replace(small, license="non-commercial", commercial=False))
    refused(NAME, f"licence of {NAME} is non-commercial: see http.*--accept-license", ValueError)
    assert authors.asked == []
    fetching.fetch(NAME, accept_license=True)
    fetching.fetch(NAME)


@pytest.mark.parametrize("names", [NAME, f"other, {NAME}", "all"])
def test_a_server_accepts_licences_by_its_environment(names, small, monkeypatch):
    monkeypatch.setitem(catalogue.BY_NAME, NAME, replace(small, license="non-commercial", commercial=False))
    monkeypatch.setenv(fetching.ACCEPTED, names)
    assert fetching.fetch(NAME).is_dir()


def test_weights_without_a_known_hash_come_from_a_file(small, authors, monkeypatch, tmp_path):
    file = authors.folder / "small.pth"
    monkeypatch.setitem(catalogue.BY_NAME, NAME, replace(small, source=Source("https://example.org/small")))
    refused(NAME, f"example.org/small, then: hf-faceenh models get {NAME} --file FILE", ValueError)
    refused(NAME, "nowhere.pth: there is no such file", ValueError, file=tmp_path / "nowhere.pth")
    assert fetching.fetch(NAME, file=file).is_dir() and authors.asked == []


def test_a_given_file_must_be_the_published_one(small, authors):
    other = saved({"params": golden("rrdb_x4")}, authors.folder / "other.pth")
    refused(NAME, f"other.pth is not the published {NAME}: its SHA-256 is", ValueError, file=other)
    assert fetching.fetch(NAME, file=authors.folder / "small.pth").is_dir() and authors.asked == []


def test_two_files_of_which_one_denoises_less_become_one(small, authors, monkeypatch):
    strong = golden("srvgg_x4")
    weak = {key: value * 0.9 for key, value in strong.items()}
    published = replace(small, source=authors.source("strong.pth", strong), weak=authors.source("weak.pth", weak))
    monkeypatch.setitem(catalogue.BY_NAME, NAME, published)
    assert SuperResolver.from_pretrained(fetching.fetch(NAME)).config.denoising
    assert authors.asked == ["strong.pth", "weak.pth"]


def test_an_unknown_name(small):
    refused("realesrgan-x9", "There is no model realesrgan-x9. .* hf-faceenh models", ValueError)


@pytest.mark.parametrize(
    "load",
    [
        lambda: FaceEnhancePipeline.from_pretrained(NAME),
        lambda: FaceEnhancePipeline.from_pretrained(super_resolver=NAME),
        lambda: load_pipeline(NAME, "cpu"),
        lambda: load_pipeline(device="cpu", super_resolver=NAME),
        lambda: load_pipeline("fast", "cpu", super_resolver=NAME),
    ],
)
def test_the_pipeline_takes_it_by_its_name(load, small):
    assert load().super_resolver.config.architecture == "rrdb"


def test_a_folder_comes_before_a_name(small, authors, tmp_path, monkeypatch):
    load_published(saved(golden("srvgg_x4"), tmp_path / "mine.pth")).save_pretrained(tmp_path / NAME)
    monkeypatch.chdir(tmp_path)
    assert load_pipeline(device="cpu", super_resolver=NAME).super_resolver.config.architecture == "compact"
    assert authors.asked == []


@pytest.mark.parametrize("name", ["codeformer", "fast"])
def test_what_is_no_super_resolver_is_refused_before_anything_is_loaded(name):
    with pytest.raises((ValueError, OSError), match=f"{name} is no super-resolver"):
        load_pipeline(device="cpu", super_resolver=name)


def test_the_commands(small, authors, astronaut, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli, "PUBLISHED", [small])
    assert cli.main(["models"]) == 0 and capsys.readouterr().out.rstrip().endswith("no")
    assert cli.main(["models", "get", NAME]) == 0 and capsys.readouterr().out.rstrip().endswith(NAME)
    assert cli.main(["models"]) == 0 and capsys.readouterr().out.rstrip().endswith("yes")
    assert cli.main(["models", "get", "nothing"]) == 1 and "There is no model nothing" in capsys.readouterr().err

    from PIL import Image

    def enhanced(*options):
        out = tmp_path / "out.png"
        picture = tmp_path / "small.png"
        Image.open(astronaut).crop((0, 0, 64, 48)).save(picture)
        assert cli.main(["enhance", str(picture), "-o", str(out), "--overwrite", *options]) == 0
        return np.asarray(Image.open(out))

    assert not np.array_equal(enhanced(), enhanced("--super-resolver", NAME))
    assert np.array_equal(enhanced("--model", NAME), enhanced("--super-resolver", NAME))


def test_the_list_needs_no_network_and_no_torch():
    code = "import sys; from hf_faceenh.cli import main; main(['models']); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("\n") == len(PUBLISHED) + 1


def test_the_catalogue():
    names = [published.name for published in PUBLISHED]
    assert len(set(names)) == len(names) and not any("/" in name for name in names)
    for published in PUBLISHED:
        assert all(source.url.startswith("https://github.com/") for source in published.sources)
        assert all(source.sha256 is None or len(bytes.fromhex(source.sha256)) == 32 for source in published.sources)
    known = catalogue.BY_NAME["gfpgan-1.4"].source.sha256
    assert known == "e2cd4703ab14f4d01fd1383a8a8b266f9a5833dacee8e6a79d3bf21a1b6be5ad"
    assert {one.name for one in PUBLISHED if not one.commercial} == {"codeformer", "gpen-256", "gpen-512", "gpen-1024"}
