import platform
import subprocess
import sys

import pytest

HELD = """
import psutil, torch
from hf_faceenh.allocator import give_back_freed_memory, keep_freed_memory
def held():
    maps = [torch.ones(16 << 20) for _ in range(4)]
    del maps
    return psutil.Process().memory_info().rss
without = held()
assert keep_freed_memory()
kept = held()
assert give_back_freed_memory()
print(without, kept, psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told")
def test_memory_that_was_freed_stays_with_the_process_until_it_is_given_back():
    result = subprocess.run([sys.executable, "-c", HELD], stdout=-1, check=True, text=True)
    without, kept, after = map(int, result.stdout.split())
    assert kept - without > 0.8 * (4 << 26)
    assert kept - after > 0.8 * (4 << 26)
