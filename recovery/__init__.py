"""The core of Rowback: archive format, restore planning, merge, undo, query and the user's verbs.

Knows Parquet, DuckDB, sqlglot and object stores. Knows neither Bytewax nor Prefect: `dataflow` and `flows` import this
package, never the other way round (tests/test_layers.py keeps it so).
"""
