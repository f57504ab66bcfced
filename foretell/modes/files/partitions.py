"""Hive's way to lay out a dataset: folders named ``year=2025/country=DE``, whose values are columns of the rows beneath.

https://cwiki.apache.org/confluence/display/hive/languagemanual+ddl#LanguageManualDDL-PartitionedTables
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from foretell.modes.files.rows import Source

NOTHING = "__HIVE_DEFAULT_PARTITION__"


def partition_of(source: Source) -> dict[str, Any]:
    """The columns that a file has from its folders: whole numbers where all digits, else texts; nothing for Hive's null."""
    folder = "" if source.shard is None else source.shard.folder
    pairs = (part.partition("=") for part in folder.split("/") if "=" in part)
    return {name: _value(unquote(text)) for name, _, text in pairs if name}


def with_partition(table: Any, values: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The table with those of the folders' columns that are wanted, and are not its own."""
    for name in names:
        if name in values and name not in table.column_names:
            kind = pa.int64() if isinstance(values[name], int) else pa.string()
            table = table.append_column(name, pa.array([values[name]] * table.num_rows, kind))
    return table


def _value(text: str) -> int | str | None:
    if text == NOTHING:
        return None
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 19 else text
