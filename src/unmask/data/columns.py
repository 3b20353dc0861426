"""Columns of Arrow batches: made plain, and brought to one shape over many files."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
from pyarrow import compute


def plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with plain values: categories and numbered classes become their names.

    The Hugging Face library stores a class as a number, with its names in the metadata of the
    schema; pictures and sounds stay the bytes they are stored as.
    """
    stored = json.loads((batch.schema.metadata or {}).get(b"huggingface", b"{}"))
    features = stored.get("info", {}).get("features") or {}
    columns = [
        _named(_decoded(column), features.get(name))
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _decoded(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _named(column: pa.Array, feature: Any) -> pa.Array:
    if not isinstance(feature, dict):
        return column
    if feature.get("_type") == "ClassLabel" and pa.types.is_integer(column.type):
        # A class below 0 means "not labelled".
        known = compute.if_else(compute.greater_equal(column, 0), column, None)
        return pa.array(feature["names"]).take(known)
    if "feature" in feature and isinstance(column, pa.ListArray):
        whole = column.take(pa.array(range(len(column))))  # Arrow takes no mask for a slice
        names = _named(whole.values, feature["feature"])
        return pa.ListArray.from_arrays(whole.offsets, names, mask=whole.is_null())
    return column


def with_constants(batch: pa.RecordBatch, values: dict[str, str]) -> pa.RecordBatch:
    """The batch with a column for each of `values`, in place of a column of the same name."""
    for name, value in values.items():
        column = pa.repeat(pa.scalar(value), batch.num_rows)
        if name in batch.schema.names:
            batch = batch.set_column(batch.schema.names.index(name), name, column)
        else:
            batch = batch.append_column(name, column)
    return batch


def aligned(batch: pa.RecordBatch, schema: pa.Schema, names: dict[str, str]) -> pa.RecordBatch:
    """The batch with the columns `names` (new: old), of the types in `schema`; None if absent."""
    columns = [
        batch.column(old).cast(schema.field(old).type)
        if old in batch.schema.names
        else pa.nulls(batch.num_rows, schema.field(old).type)
        for old in names.values()
    ]
    return pa.RecordBatch.from_arrays(columns, names=list(names))
