import platform
import subprocess
import sys

import pytest

HELD = """
import psutil, torch
from hf_faceenh.allocator import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
maps = [torch.ones(16 << 20) for _ in range(4)]
del maps
print(psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told")
def test_memory_that_was_freed_stays_with_the_process():
    without, kept = (
        int(subprocess.run([sys.executable, "-c", HELD.format(keep=keep)], stdout=-1, check=True, text=True).stdout)
        for keep in (False, True)
    )
    assert kept - without > 0.8 * (4 << 26)
