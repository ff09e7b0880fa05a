"""Where Alembic meets the control database. The connection is given, and the transaction is its owner's."""

from __future__ import annotations

from alembic import context

from groundswell.store.tables import metadata


def run() -> None:
    """Run the migrations on the connection that the caller holds."""
    context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
    context.run_migrations()


run()
