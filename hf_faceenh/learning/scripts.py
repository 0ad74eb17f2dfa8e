"""What the scripts of training/ and benchmarks/ share: how they take options, and how a mistake ends them.

Imports neither torch nor the rest of the package, so that `--help` is answered at once.
"""

import dataclasses
import itertools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, get_args, get_type_hints

import docstring_parser
from jsonargparse import ActionYesNo, ArgumentParser

from hf_faceenh.errors import one_line

Options = TypeVar("Options")


def parse_options(
    kind: type[Options],
    description: str,
    arguments: Sequence[str] | None = None,
    several: Sequence[str] = (),
    positional: bool = False,
    switches: Sequence[str] = (),
) -> tuple[Options, str]:
    """Reads a script's options from the command line and from `--config file.yaml`.

    A field of type `list[str] | str` takes one value or several, one after the other.

    Args:
        kind: dataclass with the options as its fields; the help comes from the "Args" of its docstring.
        description: of the script.
        arguments: those of the command line by default.
        several: fields that are lists and take their values one after the other: `--lq mild medium`.
        positional: whether fields without a default are given by their place instead of by name.
        switches: bool fields that are given without a value, as `--name` or `--no-name`.

    Returns:
        the options, and all of them as YAML.
    """
    parser = ArgumentParser(description=description)
    parser.add_argument("--config", action="config", help="YAML file with values for any of these options")
    parser.add_class_arguments(kind, skip={"config", *several, *switches}, as_positional=positional)
    helps = {entry.arg_name: entry.description for entry in docstring_parser.parse(kind.__doc__).params}
    for entry in dataclasses.fields(kind):
        if entry.name in several:
            (item, *_) = get_args(get_type_hints(kind)[entry.name])
            required = entry.default is entry.default_factory  # both MISSING
            default = None if required else entry.default_factory()
            parser.add_argument(
                f"--{entry.name}", type=item, nargs="+", required=required, default=default, help=helps[entry.name]
            )
        if entry.name in switches:
            action = ActionYesNo(no_prefix="no-")
            parser.add_argument(f"--{entry.name}", action=action, default=entry.default, help=helps[entry.name])
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    for entry in dataclasses.fields(kind):
        if get_type_hints(kind)[entry.name] == list[str] | str:
            arguments = _gathered(arguments, f"--{entry.name}")
    parsed = parser.parse_args(arguments)
    text = parser.dump(parsed)
    values = vars(parser.instantiate(parsed))
    values.pop("config", None)
    return kind(**values), text


def as_list(values: list[str] | str) -> list[str]:
    """The values of such a field, also where it is only one."""
    return [values] if isinstance(values, str) else values


def _gathered(arguments: list[str], flag: str) -> list[str]:
    """`--flag A B` as `--flag=["A", "B"]`, which the parser takes for a list; a single value stays as it is."""
    if flag not in arguments:
        return arguments
    start = arguments.index(flag)
    values = list(itertools.takewhile(lambda value: not value.startswith("--"), arguments[start + 1 :]))
    if len(values) < 2:
        return arguments
    return [*arguments[:start], f"{flag}={json.dumps(values)}", *arguments[start + 1 + len(values) :]]


def run_script(main: Callable[[], None]) -> None:
    """Runs a script's `main`; a mistake that its user can mend ends it with one line and status 1."""
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {one_line(error)}")
