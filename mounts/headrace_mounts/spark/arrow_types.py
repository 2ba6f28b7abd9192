"""Arrow's types as Spark knows them: the many ways that Parquet files have to say the same."""

from __future__ import annotations

from typing import Any

from headrace_mounts.spark.untyped import kinds, pa


def plain_schema(schema: Any) -> Any:
    """The schema with plain types, without metadata; every column may be null.

    Files of one data set do not always agree on what may be null, and Spark trusts what it is told.
    """
    return pa.schema([pa.field(field.name, plain_type(field.type)) for field in schema])


def plain_type(kind: Any) -> Any:
    """The Arrow type of Spark's that holds every value of this one.

    Unsigned numbers become the next wider, since Spark has none; what has no counterpart is
    returned as it is, and refused by Spark with its name.
    """
    if kinds.is_dictionary(kind) or kinds.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if kinds.is_struct(kind):
        return pa.struct([(field.name, plain_type(field.type)) for field in kind])
    if kinds.is_map(kind):
        return pa.map_(plain_type(kind.key_type), plain_type(kind.item_type))
    if any(is_list(kind) for is_list in _LISTS):
        return pa.list_(plain_type(kind.value_type))
    if kinds.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    if kinds.is_duration(kind):
        return pa.duration("us")
    if kinds.is_decimal(kind) and kind.precision <= _MOST_DIGITS:
        return pa.decimal128(kind.precision, kind.scale)
    return next((plain for is_kind, plain in _PLAIN if is_kind(kind)), kind)


_MOST_DIGITS = 38

_LISTS = (
    kinds.is_list,
    kinds.is_large_list,
    kinds.is_fixed_size_list,
    kinds.is_list_view,
    kinds.is_large_list_view,
)
_PLAIN = (
    (kinds.is_uint8, pa.int16()),
    (kinds.is_uint16, pa.int32()),
    (kinds.is_uint32, pa.int64()),
    (kinds.is_uint64, pa.decimal128(20, 0)),
    (kinds.is_float16, pa.float32()),
    (kinds.is_large_string, pa.string()),
    (kinds.is_string_view, pa.string()),
    (kinds.is_large_binary, pa.binary()),
    (kinds.is_fixed_size_binary, pa.binary()),
    (kinds.is_binary_view, pa.binary()),
    (kinds.is_date64, pa.date32()),
    (kinds.is_time32, pa.time64("us")),
    (kinds.is_time64, pa.time64("us")),
)
