"""Spark's filters as Arrow's: what lets row groups be skipped and rows be left out early.

Spark applies every filter again to what it is given. So an expression need not be exact, but it
must keep each row that Spark would keep; where that is not sure there is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import reduce
from typing import Any

from pyspark.sql import datasource as spark

from headrace_mounts.spark.untyped import pa, pc

_COMPARED: dict[type[spark.Filter], Any] = {
    spark.EqualTo: pc.equal,
    spark.GreaterThan: pc.greater,
    spark.GreaterThanOrEqual: pc.greater_equal,
    spark.LessThan: pc.less,
    spark.LessThanOrEqual: pc.less_equal,
}


def expression_of(filters: Iterable[spark.Filter], schema: Any) -> Any:
    """One Arrow expression for all filters that have one; None where none has.

    `schema` has the types that the columns are read as.
    """
    found = [one for given in filters if (one := _expression(given, schema)) is not None]
    return reduce(_both, found) if found else None


def _both(left: Any, right: Any) -> Any:
    return left & right


def _expression(given: spark.Filter, schema: Any) -> Any:
    # Columns inside of others have no statistics that Arrow looks at.
    path: tuple[str, ...] = getattr(given, "attribute", ())
    if len(path) != 1 or path[0] not in schema.names:
        return None
    column, kind = pc.field(path[0]), schema.field(path[0]).type
    match given:
        case spark.IsNull():
            return column.is_null()
        case spark.IsNotNull():
            return column.is_valid()
        case spark.EqualNullSafe(value=None):
            return column.is_null()
        case spark.EqualNullSafe():
            return _compared(spark.EqualTo, column, given.value, kind)
        case spark.In():
            return _one_of(column, given.value, kind)
        case spark.StringStartsWith() if pa.types.is_string(kind):
            return pc.starts_with(column, given.value)
        case _ if type(given) in _COMPARED:
            return _compared(type(given), column, getattr(given, "value", None), kind)
        case _:
            return None


def _compared(how: type[spark.Filter], column: Any, value: Any, kind: Any) -> Any:
    # To Spark NaN is greater than every number, to Arrow it compares with none, and the statistics
    # of a row group do not tell of it.
    if pa.types.is_floating(kind) and how in (spark.GreaterThan, spark.GreaterThanOrEqual):
        return None
    literal = _literal(value, kind)
    return None if literal is None else _COMPARED[how](column, literal)


def _one_of(column: Any, values: Iterable[Any], kind: Any) -> Any:
    wanted = [_literal(value, kind) for value in values if value is not None]
    # Arrow looks numbers up by their bits, and to Spark -0.0 is 0.0.
    if pa.types.is_floating(kind) or any(literal is None for literal in wanted):
        return None
    return column.isin(pa.array(wanted, kind))


def _literal(value: Any, kind: Any) -> Any:
    """The value as one of the column's type; None where it is none, or NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    try:
        return pa.scalar(value, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None
