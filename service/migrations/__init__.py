"""The schema's history: `versions/NOUN_NNNN.py`, one file a change, in a line (`down_revision` is the one before), run by `connection.py`.

Every file runs on SQLite and on PostgreSQL: types that both have, `batch_alter_table` for what SQLite cannot alter, no SQL of one alone.
A table's model inherits `service.database.Base` and its module is imported by `env.py`; tests/service/test_database.py holds the models
against what the migrations made, on both.
"""
