"""The reference of what is stored and printed, from its models and tables."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from estimator.nodes import NodeProfile
from results import imported, schema, tables
from tests.docs.generate.events import EVENTS
from tests.docs.generate.markdown import MADE, code, table

_HEAD = f"""# Documents and tables

{MADE}

Every JSON document names its schema and version under `schema`. The version grows when a field changes its meaning or
goes; a field that is added does not change it. `null` stands for what is not known, never for 0; the reason is in
`reasons`, `notes` or a field beside it. Units are in the names; `unit` spells them out. Shares and relative
uncertainties are fractions of 1."""

DOCUMENTS = {
    "result/1": ("`stress` and `compare RUN`, and `result.json`", "[RunResult](#runresult)"),
    "manifest/1": ("`manifest.json`", "[Manifest](#manifest)"),
    "prediction/1": ("`prediction.json`", "[StoredPrediction](#storedprediction)"),
    "cells/1": ("`import`", "[ImportedCells](#importedcells)"),
    "sweep/1": ("`sweep`, `compare SWEEP`, and `sweep.json`", "ladder, grid and where saturation lies"),
    "repeats/1": ("`stress --repeats`, `compare REPEATS`, and `repeats.json`", "each figure over the repeats"),
    "lever/1": ("`compare A B --lever`", "what one setting changes"),
    "agreement/1": ("`compare` of several", "coverage, bias and spread by term over cells"),
    "verification/1": ("`verify RUN`", "each rule with pass, fail or n.a., and what no rule derives again"),
    "verifications/1": ("`verify` of a folder of runs", "the same of each"),
    "report/1": ("`report`", "what was written, and figures left out with the reason"),
    "doctor/1": ("`doctor`", "findings about this node"),
    "workload/1": ("`workload describe`", "requests, rate, lengths"),
    "measure/1": ("`measure`", "joules and watts of a command or a stretch of time"),
    "calibrate-node/1": ("`calibrate-node`", "the fitted node model with its uncertainty"),
    "estimate/1": ("`estimate`", "quantiles of Wh/query with their Monte Carlo errors"),
    "fleet/1": ("`fleet`", "energy a day with its parts"),
    "reproduce/1": ("`reproduce`", "every claim of the paper beside ours"),
    "refit/1": ("`refit`", "forms ranked, and the fit"),
    "tps-model/2": ("`refit --out`", "file for `--tps-model`"),
    "power-model/1": ("`refit --power-out`", "file for `estimate --power-model`"),
}  # fmt: skip

_UNITS = (
    ("_tok_per_s", "tok/s"), ("joules_per_tok", "J/token"), ("_wall_s", "s since 1970"), ("_mono_s", "s, monotonic"),
    ("_s", "s"), ("_kw", "kW"), ("watts", "W"), ("_w", "W"), ("wh_per_task", "Wh"), ("joules", "J"),
    ("joules_counter", "J"), ("joules_integral", "J"), ("_j", "J"), ("_tok", "tokens"), ("_tok_sent", "tokens"),
    ("_tok_asked", "tokens"), ("running", "requests"), ("waiting", "requests"), ("_b", "bytes"), ("_c", "°C"),
    ("_mhz", "MHz"), ("_rel", "relative"), ("rel_u", "relative"), ("_ratio", "0 to 1"), ("_share", "0 to 1"),
)  # fmt: skip
_PLAIN = {float: "number", int: "integer", str: "text", bool: "true or false", NoneType: "null", Any: "anything"}


def unit(name: str) -> str:
    """Return the unit that a name states, or nothing."""
    bare = name.removesuffix("_ci95").removesuffix("_max").removesuffix("_mean")
    return next((words for ending, words in _UNITS if bare == ending or bare.endswith(ending)), "")


def schema_page() -> str:
    """Return the page."""
    models = [*_models_of(schema), *_models_of(imported)]
    named = [(f"`inference-energy/{name}`", *words) for name, words in DOCUMENTS.items()]
    parts = [
        _HEAD,
        "## Documents",
        table(("schema", "printed or written by", "what"), named),
        "## Events",
        "`events.jsonl` has one JSON object a line, each with `t_mono_s`, `t_wall_s` and `event`.",
        table(
            ("event", "further fields", "meaning"),
            [(f"`{name}`", code(*fields), meaning) for name, (fields, meaning) in EVENTS.items()],
        ),
        "## Tables",
        "Each is a folder of parquet parts (`part-00000.parquet`, ...) in the run folder; any column can be null.",
        *(part for name, columns in tables.TABLES.items() for part in _table_of(name, columns)),
        "## Models",
        *(part for model in models for part in _model(model)),
        "## A node profile",
        "The YAML file of `--node-profile`. `calibrate-node` writes one; `estimator/data/nodes/` holds others.",
        *_model(NodeProfile)[1:],
    ]
    return "\n\n".join(parts) + "\n"


def _models_of(module: Any) -> list[type[BaseModel]]:
    found = [kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == module.__name__]
    return [kind for kind in found if issubclass(kind, BaseModel) and kind.model_fields]


def _table_of(name: str, columns: pa.Schema) -> list[str]:
    rows = [(f"`{field.name}`", str(field.type), unit(field.name)) for field in columns]
    return [f"### {name}/", _docstring_after(f"{name.upper()} = "), table(("column", "type", "unit"), rows)]


def _docstring_after(start: str) -> str:
    """Return the text in triple quotes that follows a line of ``results.tables``."""
    source = inspect.getsource(tables)
    _, _, after = source.partition(f"\n{start}")
    return after.split('"""')[1].strip().replace("``", "`")


def _model(model: type[BaseModel]) -> Sequence[str]:
    model.model_rebuild()  # names of models that stand further down in the file become those models
    rows = []
    for name, field in model.model_fields.items():
        kind = _words(field.annotation)
        plain = field.default is PydanticUndefined or field.default in (None, (), {})
        default = "" if plain or _constant(field.annotation) else f" Default: `{field.default}`."
        meaning = (field.description or "").rstrip(".") + ("." if field.description else "") + default
        rows.append((f"`{field.alias or name}`", kind, unit(name), meaning.strip()))
    about = inspect.cleandoc(model.__doc__ or "").replace("``", "`")
    return [f"### {model.__name__}", about, table(("field", "type", "unit", "meaning"), rows)]


def _constant(kind: Any) -> bool:
    return get_origin(kind) is Literal and len(get_args(kind)) == 1


def _words(kind: Any) -> str:
    """Return a type in words; models are links."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(_words(each) for each in inner)
    if origin is Annotated:
        return _words(inner[0])
    if origin is Literal:
        return ", ".join(f"`{each}`" for each in inner)
    if origin is tuple:
        several = inner[-1] is Ellipsis
        return f"list of {_words(inner[0])}" if several else f"[{', '.join(_words(each) for each in inner)}]"
    if origin is dict:
        return f"object of {_words(inner[1])}"
    if inspect.isclass(kind) and issubclass(kind, BaseModel):
        return f"[{kind.__name__}](#{kind.__name__.lower()})"
    return _PLAIN[kind]
