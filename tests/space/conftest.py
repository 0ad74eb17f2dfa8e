import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

SPACE = Path(__file__).parents[2] / "space"
CHROMIUM = "apt-get update && apt-get install -y --no-install-recommends chromium chromium-driver"


@dataclass
class App:
    """`python space/app.py`, running."""

    url: str
    process: subprocess.Popen
    printed: list[str]
    folder: Path  # where its temporary files lie

    def memory(self) -> int:
        """Bytes."""
        return psutil.Process(self.process.pid).memory_info().rss


@contextlib.contextmanager
def _running_app(folder: Path, **environment: str) -> Iterator[App]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "GRADIO_SERVER_PORT": str(port),
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(folder),
        # glibc gives freed memory back, so that one can see whether the app does
        "MALLOC_MMAP_THRESHOLD_": str(2**20),
        "MALLOC_TRIM_THRESHOLD_": str(2**20),
    } | environment  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, SPACE / "app.py"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        cwd=folder, env=environment,
    )  # fmt: skip
    printed: list[str] = []
    reader = threading.Thread(target=lambda: printed.extend(process.stdout))
    reader.start()
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(600):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(url).close()
                break
            assert process.poll() is None, "".join(printed)
            time.sleep(0.2)
        yield App(url, process, printed, folder)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
        reader.join()


@pytest.fixture(scope="session")
def running_app():
    """A context manager: `running_app(folder for temporary files, **environment)`."""
    return _running_app


@pytest.fixture(scope="session")
def app(tmp_path_factory) -> Iterator[App]:
    """With the bundled weights."""
    with _running_app(tmp_path_factory.mktemp("app")) as app:
        yield app


@pytest.fixture(scope="session")
def three_faces() -> Path:
    """640×330 px; three faces of one person: large, smaller, small."""
    return SPACE / "examples" / "three_prints.jpg"


@pytest.fixture(scope="session")
def chromium() -> tuple[str, str]:
    """The paths of Chromium and of its driver; installed if need be, and if that can be."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        reason = "you are not root on Debian"
        if shutil.which("apt-get") and os.geteuid() == 0:
            done = subprocess.run(["sh", "-c", CHROMIUM], capture_output=True, text=True)
            reason = re.sub(r"\s+", " ", done.stderr)[-200:]
        if not (shutil.which("chromium") and shutil.which("chromedriver")):
            message = f"THE SPACE WAS NOT TRIED IN A BROWSER: there is no Chromium ({reason}). Run: {CHROMIUM}"
            warnings.warn(message, stacklevel=1)
            pytest.skip(message)
    return shutil.which("chromium"), shutil.which("chromedriver")
