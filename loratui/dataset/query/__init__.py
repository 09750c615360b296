"""The filter language: `parse` a text to a query, `compile_query` it to a test of rows, `to_text` back.

    tag:"long hair" AND NOT (width:<512 OR blur:yes)

`NOT` binds tighter than `AND`, `AND` tighter than `OR`. A bare word looks in the caption and the path.
Values take `*` and `?`; quotes hold spaces together; `re:` starts a regular expression; `="Text"` is literal
and minds the case. Numbers compare with `=`, `!=`, `<`, `<=`, `>`, `>=`. `field:yes` and `field:no` ask
whether there is any.
"""

from __future__ import annotations

from loratui.dataset.query.evaluate import Row, compile_query, select
from loratui.dataset.query.nodes import FIELDS, And, Field, Node, Not, Or, QueryError, Term, to_text
from loratui.dataset.query.parse import parse
from loratui.dataset.query.sort import SortKey, parse_sort, sort_rows, sort_to_text

__all__ = [
    "FIELDS",
    "And",
    "Field",
    "Node",
    "Not",
    "Or",
    "QueryError",
    "Row",
    "SortKey",
    "Term",
    "compile_query",
    "parse",
    "parse_sort",
    "select",
    "sort_rows",
    "sort_to_text",
    "to_text",
]
