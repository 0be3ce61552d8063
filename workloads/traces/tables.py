"""Read a CSV file of any size as blocks of columns, each value as the text that stands in the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from estimator.lengths import FloatArray
from workloads.traces.blocks import Block, Values
from workloads.traces.stream import WorkloadFileError, unreadable

BLOCK_B = 1 << 18
"""Some thirty blocks are read ahead."""


def read_table(path: Path, columns: Sequence[str], what: str) -> Iterator[Block]:
    """Yield the rows of a CSV file with a header, about ``BLOCK_B`` bytes at a time.

    Raises ``WorkloadFileError`` where the file is unreadable, lacks a column or has a row of another width.
    """
    read = csv.ReadOptions(use_threads=False, block_size=BLOCK_B)
    convert = csv.ConvertOptions(include_columns=list(columns), column_types=dict.fromkeys(columns, pa.string()))
    before = 0
    try:
        with path.open("rb") as file, csv.open_csv(file, read, convert_options=convert) as reader:
            for batch in reader:
                texts = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in columns}
                yield Block(path, before, texts, _as_numbers)
                before += batch.num_rows
    except OSError as error:
        raise unreadable(path, error) from error
    except (pa.ArrowInvalid, KeyError) as error:
        raise WorkloadFileError(f"{path} is not {what} with the columns {', '.join(columns)}: {error}") from error


def _as_numbers(texts: Values) -> FloatArray:
    return np.asarray(pd.to_numeric(texts, errors="coerce"), dtype=np.float64)
