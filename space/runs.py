"""The runs of all visitors: each in a thread, with a folder of its own and a file that stops it."""

import asyncio
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr
import mistakes
import pictures
from wishes import Stopped

from hf_faceenh.allocator import give_back_freed_memory

running: dict[Path, str | None] = {}  # the file whose existence stops a run, and whose run it is (Gradio's session)
waiting_to_stop: set[str] = set()  # sessions that pressed Stop before their turn came


async def in_thread(function, *arguments, request: gr.Request) -> Any:
    """Runs `function(*arguments, folder, stop)` in a thread, and stops it when the visitor cancels or leaves."""
    if request.session_hash in waiting_to_stop:
        waiting_to_stop.discard(request.session_hash)
        raise Stopped
    folder = pictures.new_folder()
    stop = folder / "stop"
    running[stop] = request.session_hash
    thread = asyncio.ensure_future(asyncio.to_thread(function, *arguments, folder, stop))
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:  # `cancels` of the page, and `job.cancel()` of Gradio's client
        stop.touch()
        with suppress(Exception):
            await thread
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except gr.Error:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except Exception as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise mistakes.reported(error) from None
    finally:
        del running[stop]
        if not running:
            give_back_freed_memory()


def begin(request: gr.Request) -> None:
    """The visitor wants a run; an earlier Stop is forgotten."""
    waiting_to_stop.discard(request.session_hash)


def stop(request: gr.Request) -> None:
    """The visitor has pressed Stop: the run ends at its next step, and gives what it has."""
    mine = [file for file, session in running.items() if session == request.session_hash]
    for file in mine:
        file.touch()
    if not mine:
        waiting_to_stop.add(request.session_hash)


def leave(request: gr.Request) -> None:
    """The visitor has closed the page."""
    stop(request)
    waiting_to_stop.discard(request.session_hash)
