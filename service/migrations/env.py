"""Alembic's entry: `database.py` comes in with an open connection, an up-to-date schema goes out. Run at start-up, never from a shell."""

from __future__ import annotations

from alembic import context

from service.database import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
