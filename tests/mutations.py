"""Damage to small files, by a seed, and what a damaged file may bring about: success, or the package's own error."""

import json
import os
import random
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

CASES = int(os.environ.get("FUZZ_CASES", "1000"))
SECONDS = 20  # that one file may take
MEMORY = 6 * 2**30  # bytes of address space beyond what the libraries take
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
VALUES = (None, True, -1, 0, 3, 1e308, 10**9, "", "x" * 5000, "\x1b[31m", [], {}, [[10**7]], float("nan"))


def damaged(content: bytes, rng: random.Random) -> bytes:
    """One to four changes: bytes flipped, numbers put in, pieces cut, doubled or moved, the end lost."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        if not data:
            break
        at, length = rng.randrange(len(data)), rng.randint(1, 64)
        kind = rng.randrange(6)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            size = rng.choice((1, 2, 4))
            number = rng.choice(NUMBERS) & (256**size - 1)
            data[at : at + size] = number.to_bytes(size, rng.choice(("little", "big")))
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            data[at:at] = data[at : at + length]
        elif kind == 4:
            other = rng.randrange(len(data))
            data[at : at + length] = data[other : other + length]
        else:
            del data[max(1, len(data) - rng.randrange(1, 1 + len(data) // 2)) :]
    return bytes(data)


def damaged_config(text: str, rng: random.Random) -> str:
    """A JSON object in which one to three values, wherever, are others or gone; now and then no JSON at all."""
    if rng.random() < 0.1:
        return damaged(text.encode(), rng).decode("latin-1")
    config = json.loads(text)
    for _ in range(rng.randint(1, 3)):
        place, key = _place(config, rng)
        if key is None:
            return json.dumps(rng.choice(VALUES))
        if rng.random() < 0.2:
            del place[key]
        else:
            place[key] = rng.choice(VALUES)
    return json.dumps(config)


def _place(config, rng: random.Random):
    """A container somewhere in the object, and a key of it."""
    keys = list(config) if isinstance(config, dict) else list(range(len(config)))
    if not keys:
        return config, None
    key = rng.choice(keys)
    if isinstance(config[key], (dict, list)) and config[key] and rng.random() < 0.7:
        return _place(config[key], rng)
    return config, key


def findings(judge: Callable[[int], str | None]) -> list[str]:
    """What `judge` says of the seeds 0 … CASES − 1, which it gets in a process of its own with little memory: a crash
    is a finding too."""
    found, seeds = [], iter(range(CASES))
    while (left := _judged(judge, seeds, found)) is not None:
        found.append(f"seed {left}: the process died")
    return found


def _judged(judge: Callable[[int], str | None], seeds: Iterator[int], found: list[str]) -> int | None:
    """Judges until a process dies; gives the seed that it died of."""
    with ProcessPoolExecutor(1, initializer=_limit) as pool:
        for seed in seeds:
            start = time.monotonic()
            try:
                said = pool.submit(judge, seed).result()
            except BrokenProcessPool:
                return seed
            if said:
                found.append(f"seed {seed}: {said}")
            if (seconds := time.monotonic() - start) > SECONDS and seed:  # the first one imports
                found.append(f"seed {seed}: {seconds:.0f} s")
    return None


def _limit() -> None:
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def verdict(error: BaseException, allowed: tuple[type[BaseException], ...]) -> str | None:
    """What is wrong with an error: another than the package's own, or more than a line; `None` for nothing."""
    said = str(error)
    if not isinstance(error, allowed):
        return f"{type(error).__name__}: {said[:200]}"
    return f"several lines: {said[:200]!r}" if "\n" in said else None
