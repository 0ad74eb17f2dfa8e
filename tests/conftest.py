import importlib.util
import os
from pathlib import Path

import pytest
import torch
from tiny import tiny_pipeline

from hf_faceenh import FaceEnhancePipeline

EXAMPLES = Path(__file__).parents[1] / "examples"

if "PYTEST_XDIST_WORKER" in os.environ:  # tests run side by side; with two threads each they fight for the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that they start
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def astronaut() -> Path:
    """A real photograph, 512×512 px, of one person (examples/astronaut.png)."""
    return EXAMPLES / "astronaut.png"


@pytest.fixture(scope="session")
def dlib_files() -> Path:
    """dlib's published files, in face_recognition_models: found, not imported, for that needs an old setuptools."""
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None:
        pytest.skip("face_recognition_models is not installed")
    return Path(spec.submodule_search_locations[0]) / "models"


@pytest.fixture(scope="session")
def bundled() -> FaceEnhancePipeline:
    """The pipeline that comes with the package. Do not change it."""
    pipe = FaceEnhancePipeline.from_pretrained()
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session")
def tiny(bundled) -> FaceEnhancePipeline:
    """A quick pipeline. Do not change it."""
    return tiny_pipeline(bundled)


@pytest.fixture(scope="session")
def model(tiny, tmp_path_factory) -> str:
    """The quick pipeline's folder. Do not change it."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny.save_pretrained(folder)
    return str(folder)
