import platform
import subprocess
import sys

import pytest

HELD = """
import psutil, torch
from hf_faceenh.allocator import keep_freed_memory
def held():
    maps = [torch.ones(16 << 20) for _ in range(4)]
    del maps
    return psutil.Process().memory_info().rss
without = held()
assert keep_freed_memory()
print(without, held())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told")
def test_memory_that_was_freed_stays_with_the_process():
    result = subprocess.run([sys.executable, "-c", HELD], stdout=-1, check=True, text=True)
    without, kept = map(int, result.stdout.split())
    assert kept - without > 0.8 * (4 << 26)
