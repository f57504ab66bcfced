"""Rows and their labels from a table, an .npz file or a folder of images with a subfolder for each class."""

import contextlib
import csv
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from foretell.errors import Setup
from foretell.modes.files import read_chunks
from foretell.modes.files.inputs import MEDIA, format_of
from foretell.plugins import did_you_mean, needs_extra
from foretell.tensors import Array, Arrays, Datatype, Signature, TensorSpec, cast

LABEL = "label"
"""The column of labels when none is named; without it, rows have no labels."""
LEAST_ROWS, MOST_ROWS = 64, 100_000
CHUNK_ROWS = 4096


@dataclass(frozen=True)
class Data:
    """Rows that conform to a pipeline's signature. ``labels`` [rows]: INT64 for whole numbers, else FP64; BYTES for texts."""

    rows: Arrays
    labels: Array | None = None

    def __len__(self) -> int:
        return len(next(iter(self.rows.values())))

    def take(self, places: NDArray[np.int64] | slice) -> "Data":
        """Some of the rows, in the order of ``places``."""
        labels = None if self.labels is None else self.labels[places]
        return Data({name: array[places] for name, array in self.rows.items()}, labels)


def read_data(path: Path, signature: Signature, label: str | None = None, map: Mapping[str, str] | None = None) -> Data:
    """Every row of ``path``, and the labels in its column ``label``: .csv, .ndjson, .parquet, .npz or a folder of images.

    Without ``label``, a column of that name holds the labels if there is one. Columns are found as for ``foretell predict``;
    where a model takes one vector, all columns but the label may be it. Raises Setup: ``missing_file``, ``unknown_suffix``,
    ``missing_column``, ``broken_file``, ``unlabelled``, ``too_few_rows``, ``unusable_rows``; and Invalid for what does not fit.
    """
    if not signature.rows:
        raise Setup("unsupported_graph", "the model has no axis of rows: export it with a batch axis of any length")
    if not path.exists():
        raise Setup("missing_file", f"there is no file of rows at {path}: check the path")
    data = _read(path, signature, label, map or {})
    _check_count(path, len(data))
    fitted = {spec.name: cast(data.rows[spec.name], spec.dtype, spec.name, rounding=True) for spec in signature.inputs}
    return Data(signature.conform(fitted), None if data.labels is None else tidy_labels(data.labels))


def split(data: Data, share: float, seed: int = 0) -> tuple[Data, Data]:
    """Two parts without a row in common, the first of about ``share`` of them: to fit on, and to judge by.

    Rows are drawn at random, of each class alike. Raises Setup ``too_few_rows`` when a part has fewer than ``LEAST_ROWS`` / 2.
    """
    dice = np.random.default_rng(seed)
    order = dice.permutation(len(data))
    if data.labels is not None and data.labels.dtype != np.float64:
        _, classes = np.unique(data.labels.astype(str), return_inverse=True)
        order = order[np.argsort(classes[order], kind="stable")]
    first = np.zeros(len(data), np.bool_)
    first[order[np.floor(np.arange(len(data)) * share + 0.5) != np.floor((np.arange(len(data)) + 1) * share + 0.5)]] = True
    parts = data.take(dice.permutation(np.flatnonzero(first))), data.take(dice.permutation(np.flatnonzero(~first)))
    if min(map(len, parts)) < LEAST_ROWS // 2:
        raise Setup("too_few_rows", f"{len(data)} rows leave {min(map(len, parts))} for one part: give more rows")
    return parts


def tidy_labels(labels: Array) -> Array:
    """Texts that are all numbers become numbers, and numbers that are all whole INT64. Raises Setup ``unlabelled`` for gaps."""
    if labels.dtype.kind in "OSU":
        texts = [each.decode() if isinstance(each, bytes) else str(each) for each in labels.tolist()]
        if empty := [row for row, text in enumerate(texts) if not text.strip()]:
            raise Setup("unlabelled", f"row {empty[0]} has no label, nor have {len(empty) - 1} others: give every row one")
        numbers = _numbers(texts)
        if numbers is None:
            return np.array([*(text.encode() for text in texts), None], np.object_)[:-1]
        labels = numbers
    floats = labels.astype(np.float64)
    if not np.isfinite(floats).all():
        row = int(np.flatnonzero(~np.isfinite(floats))[0])
        raise Setup("unlabelled", f"row {row} has the label {floats[row]}: give every row a finite one")
    return floats.astype(np.int64) if (floats == np.round(floats)).all() else floats


def _numbers(texts: list[str]) -> NDArray[np.float64] | None:
    try:
        return np.array([float(text) for text in texts])
    except ValueError:
        return None


def _read(path: Path, signature: Signature, label: str | None, map: Mapping[str, str]) -> Data:
    if path.is_dir():
        return _read_classes(path, signature)
    if path.suffix.lower() == ".npz":
        return _read_npz(path, signature, label, map)
    return _read_table(path, signature, label, map)


def _read_table(path: Path, signature: Signature, label: str | None, map: Mapping[str, str]) -> Data:
    kinds = _columns(path)
    if label is not None and label not in kinds:
        raise Setup("unlabelled", f"{path} has no column {label!r}{did_you_mean(label, list(kinds))}")
    name = label or LABEL
    if name not in kinds or name in {spec.name for spec in signature.inputs}:
        return Data(_chunks(path, signature, map))
    wide = Signature((*signature.inputs, TensorSpec(name, kinds[name])), signature.outputs)
    arrays = _chunks(path, wide, {**_by_place(signature, kinds, name), **map}, name)
    labels = arrays.pop(name)
    return Data(arrays, labels)


def _by_place(signature: Signature, kinds: Mapping[str, Datatype], label: str) -> dict[str, str]:
    """The only input is filled from all columns but the label, if their number fits and none bears its name."""
    spec, others = signature.inputs[0], [name for name in kinds if name != label]
    size = 0 if None in spec.shape else int(np.prod([length or 0 for length in spec.shape]))
    named = spec.name in kinds or f"{spec.name}_0" in kinds
    fits = len(signature.inputs) == 1 and not named and size == len(others)
    return {spec.name: ",".join(others)} if fits else {}


def _columns(path: Path) -> dict[str, Datatype]:
    """The columns of a table, with what a label in each would be read as."""
    kind = format_of(path)
    if kind == "csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next((row for row in csv.reader(file) if row), [])
        return dict.fromkeys((name.strip() for name in header), Datatype.BYTES)
    if kind == "parquet":
        return _parquet_columns(path)
    if kind == "ndjson":
        with path.open("rb") as file, contextlib.suppress(orjson.JSONDecodeError):
            row = orjson.loads(next((line for line in file if line.strip()), b"{}"))
            found = row if isinstance(row, dict) else {}
            return {name: Datatype.BYTES if isinstance(value, str) else Datatype.FP64 for name, value in found.items()}
    return {}


def _parquet_columns(path: Path) -> dict[str, Datatype]:
    with needs_extra("reading Parquet", "files"):
        import pyarrow as pa
        import pyarrow.parquet
    try:
        schema = pyarrow.parquet.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise Setup("broken_file", f"{path} cannot be read as Parquet: {error}") from error
    numbers = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    return {field.name: Datatype.FP64 if any(test(field.type) for test in numbers) else Datatype.BYTES for field in schema}


def _chunks(
    path: Path, signature: Signature, map: Mapping[str, str] | None = None, label: str | None = None
) -> dict[str, Array]:
    """All rows at a path in one array for each input; a row that cannot be read is refused, or that has no ``label``."""
    parts: list[Arrays] = []
    count = 0
    for rows, bad in read_chunks(path, signature, CHUNK_ROWS, map):
        if bad:
            no_label = label is not None and f"column {label!r}" in bad[0].error
            raise Setup("unlabelled" if no_label else "broken_file", f"{path}, row {bad[0].row}: {bad[0].error}")
        if rows is not None and len(rows):
            parts.append(rows.arrays)
            count += len(rows)
            _check_most(path, count)
    if not parts:
        raise Setup("broken_file", f"{path} has no rows: name a file that has some")
    return {name: _joined(path, name, [part[name] for part in parts]) for name in parts[0]}


def _joined(path: Path, name: str, parts: list[Array]) -> Array:
    shapes = {part.shape[1:] for part in parts}
    if len(shapes) > 1 or any(isinstance(part.flat[0], np.ndarray) for part in parts if part.dtype == np.object_ and part.size):
        raise Setup("broken_file", f"{path}: the rows of {name!r} differ in shape: pad them to one shape")
    return np.concatenate(parts)


def _read_npz(path: Path, signature: Signature, label: str | None, map: Mapping[str, str]) -> Data:
    """An array for each input as ``foretell predict`` finds it, and the labels; nothing is unpickled."""
    try:
        with np.load(path, allow_pickle=False) as file:
            names = list(file.files)
            named = _labels_of(names, signature, label, map)
            taken = _arrays_of(path, names, signature, named, map)
            arrays = {name: file[name] for name in names if name in {named, *taken.values()}}
    except (ValueError, OSError, EOFError) as error:
        raise Setup("broken_file", f"{path} cannot be read as .npz: {error}: save arrays with numpy.savez") from error
    if label is not None and named is None:
        raise Setup("unlabelled", f"{path} has no array {label!r}{did_you_mean(label, names)}")
    lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise Setup("broken_file", f"{path}: all arrays need the same number of rows, it has {lengths}")
    inputs = {spec.name: _widened(arrays[taken[spec.name]], spec) for spec in signature.inputs}
    return Data(inputs, None if named is None else arrays[named])


def _labels_of(names: list[str], signature: Signature, label: str | None, map: Mapping[str, str]) -> str | None:
    """The array of labels, if there is one; that of an input is none unless it is asked for."""
    inputs = {map.get(spec.name, spec.name) for spec in signature.inputs}
    name = label or LABEL
    return name if name in names and (label is not None or name not in inputs) else None


def _arrays_of(
    path: Path, names: list[str], signature: Signature, labels: str | None, map: Mapping[str, str]
) -> dict[str, str]:
    """For each input the name of its array: by ``map``, by its own; or the only one beside the labels. Raises Setup."""
    others = [name for name in names if name != labels]
    found = {}
    for spec in signature.inputs:
        name = map.get(spec.name, spec.name)
        if name not in names and len(others) == len(signature.inputs) == 1:
            name = others[0]
        if name not in names:
            raise Setup("missing_column", f"{path} has no array {name!r} for input {spec}{did_you_mean(name, names)}")
        found[spec.name] = name
    return found


def _widened(array: Array, spec: TensorSpec) -> Array:
    return array.astype(np.float64) if array.dtype.kind in "iu" and spec.dtype.is_float else array


def _read_classes(folder: Path, signature: Signature) -> Data:
    """A folder with a subfolder for each class; or images alone, which have no labels."""
    classes = sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
    if not classes:
        return Data(_chunks(folder, signature))
    _check_most(folder, sum(1 for _ in _images(folder)))
    parts = [_chunks(each, signature) for each in classes]
    counts = [len(next(iter(part.values()))) for part in parts]
    labels: Any = list(itertools.chain(*([each.name.encode()] * count for each, count in zip(classes, counts, strict=True))))
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Data(rows, np.array([*labels, None], np.object_)[:-1])


def _images(folder: Path) -> Iterator[Path]:
    return (file for file in folder.glob("*/*") if file.suffix.lower() in MEDIA)


def _check_most(path: Path, count: int) -> None:
    if count > MOST_ROWS:
        raise Setup("unusable_rows", f"{path} has more than {MOST_ROWS:,} rows, all held in memory: give a sample of them")


def _check_count(path: Path, count: int) -> None:
    if count < LEAST_ROWS:
        raise Setup("too_few_rows", f"{path} has {count} rows, at least {LEAST_ROWS} are needed to measure anything: add some")
