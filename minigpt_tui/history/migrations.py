"""The tables of the history, as they came to be: each migration leads from one version of the schema to the next, and a
new file goes through them all. One that was ever released is never changed.

What a list shows and figures count is in `entries`, whose rows are short; what was written is in `texts`.
"""

from __future__ import annotations

APPLICATION_ID = 0x6D475054
"""What the file says it is: `mGPT`."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        f"PRAGMA application_id = {APPLICATION_ID}",
        """
        CREATE TABLE entries (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            time REAL NOT NULL,
            source TEXT NOT NULL,
            model TEXT NOT NULL,
            family TEXT NOT NULL,
            parameters INTEGER NOT NULL,
            device TEXT NOT NULL,
            precision TEXT NOT NULL,
            finish_reason TEXT NOT NULL,
            prompt_tokens INTEGER NOT NULL,
            new_tokens INTEGER NOT NULL,
            tokens_per_second REAL NOT NULL,
            time_to_first_token REAL NOT NULL,
            favourite INTEGER NOT NULL DEFAULT 0
        )
        """,
        """
        CREATE TABLE texts (
            id INTEGER PRIMARY KEY REFERENCES entries (id),
            note TEXT NOT NULL DEFAULT '',
            tags TEXT NOT NULL DEFAULT '',
            prompt_length INTEGER NOT NULL,
            body TEXT NOT NULL,
            prompt_ids BLOB NOT NULL,
            ids BLOB NOT NULL,
            params TEXT NOT NULL,
            changes TEXT NOT NULL,
            model_path TEXT NOT NULL,
            sha256 TEXT NOT NULL,
            version TEXT NOT NULL
        )
        """,
    ),
    (
        "ALTER TABLE entries ADD COLUMN deleted REAL",  # when; it can be undone until it is purged
        "CREATE INDEX entries_deleted ON entries (deleted) WHERE deleted IS NOT NULL",
        "CREATE TABLE tagged (tag TEXT NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (tag, id)) WITHOUT ROWID",
        "CREATE INDEX tagged_id ON tagged (id)",
        "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    ),
)

VERSION = len(MIGRATIONS)
"""The version of the schema that this program reads and writes."""

INDEX = (
    "DROP TABLE IF EXISTS words",
    "DROP VIEW IF EXISTS spoken",
    # With an end, so that a trigram begins at each character: what is shorter than three is found by how they begin.
    """
    CREATE VIEW spoken AS SELECT
        id, body || char(10, 10) AS body, note || char(10, 10) AS note, tags || char(10, 10) AS tags
    FROM texts
    """,
    """
    CREATE VIRTUAL TABLE words USING fts5 (
        body, note, tags, content='spoken', content_rowid='id', tokenize='trigram', detail='none', columnsize=0
    )
    """,
    "INSERT INTO words (words) VALUES ('rebuild')",
    "DELETE FROM facts WHERE name = 'stale'",
)
"""The index of trigrams. It can be made anew from `texts` at any time, and is no part of the schema's version: a SQLite
without it reads and writes the same file.
"""

EMPTY_INDEX = "INSERT OR REPLACE INTO words_data VALUES (1, x''), (10, x'00000000000000')"
"""Makes an index empty, in its own tables: one that makes no sense cannot even be dropped."""
