"""The lake: one wide Iceberg table of events; the only room that knows Iceberg, Parquet and DuckDB."""
