"""Commands in processes of their own."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def process(*arguments, **options) -> subprocess.Popen:
    """`hf-faceenh` in a process of its own."""
    command = [sys.executable, "-m", "hf_faceenh.cli", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
