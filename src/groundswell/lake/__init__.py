"""The lake: one wide Iceberg table; data and offsets in one commit."""
