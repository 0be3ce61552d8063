"""The reference of the command line, from the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer.main

from harness import errors
from harness.cli import INTERNAL_ERROR_EXIT, app
from harness.commands.stress import INTERRUPTED_EXIT, INVALID_RESULT_EXIT
from tests.docs.generate.markdown import MADE, code, table

_HEAD = f"""# Command line

{MADE} What the commands are for: [guide.md](guide.md).

- `--json` prints exactly one JSON document on standard output, with a `schema` key; all else goes to standard error.
- Options of `stress` and `sweep` can stand in a YAML file (`--config run.yaml`) under the names of the flags, with
  underscores. A flag beats the file, and an unknown key is an error. Repeatable options are lists there.
- A default of "–" means: left out, or decided by what the node has; `harness stress --dry-run` prints what that is.
"""

ENVIRONMENT = {
    "HARNESS_API_KEY": "key for the servers of `--url`, sent as a bearer token; never given on a command line",
    "HARNESS_REDFISH_URL": "address of the management controller, `https://...`, for the meter `redfish`",
    "HARNESS_REDFISH_USER": "user there",
    "HARNESS_REDFISH_PASSWORD_FILE": "file that holds the password",
    "HARNESS_REDFISH_PASSWORD": "the password itself, where no file is named",
    "HARNESS_REDFISH_CA_FILE": "certificate of the authority that signed the controller's",
    "HARNESS_REDFISH_VERIFY": "`no` does not check the controller's certificate. Default: `yes`",
    "HARNESS_REDFISH_CHASSIS": "which chassis, where the controller has several",
    "HARNESS_LEVEL": "set by `calibrate-node` for its command: the level of load, 1, 2, ...",
    "CUDA_VISIBLE_DEVICES": "GPUs that `stress`, `sweep` and `measure` use where `--gpu` names none, by index or UUID; "
    "`exporter` and `calibrate-node` are for the whole node and do not read it",
    "CUDA_DEVICE_ORDER": "`PCI_BUS_ID` makes the indices there those of `nvidia-smi` where GPUs are unlike",
    "HF_HOME": "where the models of the hub are cached; read to see which are there already",
    "HF_HUB_CACHE": "the same, more closely; without either it is below `XDG_CACHE_HOME`",
    "HF_TOKEN": "read by vLLM itself, for models behind a licence",
}
SAME_AS = {"sweep": "stress"}
"""Commands that share most of their options with another."""


def cli_page() -> str:
    """Return the page."""
    return "\n\n".join([_HEAD.rstrip(), *_command_sections(), _environment(), _exit_codes()]) + "\n"


def commands() -> dict[str, Any]:
    """Return every command of the harness by the words that call it."""
    found: dict[str, Any] = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found |= {f"{name} {word}": each for word, each in inner.items()} if inner else {name: command}
    return found


def _command_sections() -> Iterator[str]:
    every = commands()
    for name, command in every.items():
        arguments = [param for param in command.params if param.param_type_name == "argument"]
        usage = " ".join(["harness", name, *(_argument_word(param) for param in arguments), "[OPTIONS]"])
        rows = [_row(param) for param in command.params if param.name != "help"]
        like = SAME_AS.get(name)
        shared = [] if like is None else [row for row in rows if row in [_row(param) for param in every[like].params]]
        own = [row for row in rows if row not in shared]
        parts = [
            f"## harness {name}",
            inspect.cleandoc(command.help or command.callback.__doc__),
            f"    {usage}",
            table(("option", "value", "default", "meaning"), own),
        ]
        if like:
            parts.append(f"As for [`{like}`](#harness-{like}): {', '.join(row[0] for row in shared)}.")
        yield "\n\n".join(parts)


def _argument_word(param: Any) -> str:
    name = param.metavar or param.name.upper() + ("..." if param.nargs == -1 else "")
    return name if param.required else f"[{name}]"


def _row(param: Any) -> tuple[str, str, str, str]:
    meaning, _, default = (param.help or "").partition(" Default: ")
    if param.param_type_name == "argument":
        name = f"`{_argument_word(param)}`"
    else:
        name = code("/".join([*param.opts, *param.secondary_opts]))
    default = default.removesuffix(".").removesuffix(".0") or _default(param)
    return name, _value(param), default, meaning


def _default(param: Any) -> str:
    if param.required:
        return "required"
    if param.default is False or param.default in (None, ()):
        return "–"
    return f"`{param.default:g}`" if isinstance(param.default, float) else f"`{param.default}`"


def _value(param: Any) -> str:
    """Return what kind of value a parameter takes, with its limits."""
    if getattr(param, "is_flag", False):
        return "flag"
    info, kind = param.type_descriptor.parameter_info, param.type_descriptor.annotation
    (kind,) = getattr(kind, "__args__", (kind,))
    words = {"int": "whole number", "float": "number", "Path": "path", "str": "text"}[kind.__name__]
    least = getattr(info, "min", None)
    limit = "" if least is None else f" ≥ {least:g}"
    return words + limit + (", repeatable" if param.multiple else "")


def _environment() -> str:
    rows = [(f"`{name}`", meaning) for name, meaning in ENVIRONMENT.items()]
    return "## Environment\n\n" + table(("variable", "meaning"), rows)


def _exit_codes() -> str:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind is not errors.HarnessError]
    rows = [
        (0, "Done."),
        *((kind.exit_code, str(kind.__doc__)) for kind in kinds),
        (INVALID_RESULT_EXIT, "Done, but a cell is invalid; of `verify`: a rule failed."),
        (INTERNAL_ERROR_EXIT, "A bug in the harness; its traceback is kept in a file to report."),
        (INTERRUPTED_EXIT, "Interrupted; what was measured until then is printed and kept."),
    ]
    head = "## Exit codes\n\n`measure` passes on the exit code of its command.\n\n"
    return head + table(("code", "meaning"), [(str(number), meaning) for number, meaning in sorted(rows)])
