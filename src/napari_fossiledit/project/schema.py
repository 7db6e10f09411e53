"""Tables of the ledger.

``instances.id`` is AUTOINCREMENT: a value that was once painted into ``labels.zarr`` never means
another instance. Rows of the source ``labels`` carry no geometry: ``labels.zarr`` does.
"""

from __future__ import annotations

LEDGER_VERSION = 1

SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS instances (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL,
    z INTEGER NOT NULL CHECK (z >= 0),
    class TEXT NOT NULL,
    part TEXT NOT NULL,
    score REAL NOT NULL,
    height INTEGER NOT NULL,
    width INTEGER NOT NULL,
    counts BLOB NOT NULL,
    texture TEXT NOT NULL DEFAULT '',
    unsure INTEGER NOT NULL DEFAULT 0,
    origin TEXT NOT NULL,
    specimen INTEGER,
    parent INTEGER REFERENCES instances (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    review TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS instances_by_slice ON instances (source, z, score DESC, id);
CREATE INDEX IF NOT EXISTS instances_by_parent ON instances (parent) WHERE parent IS NOT NULL;
CREATE TABLE IF NOT EXISTS done (
    source TEXT NOT NULL,
    z INTEGER NOT NULL,
    PRIMARY KEY (source, z)
) WITHOUT ROWID;
-- No counts: the whole slice is traced.
CREATE TABLE IF NOT EXISTS traced (
    z INTEGER PRIMARY KEY,
    height INTEGER,
    width INTEGER,
    counts BLOB
);
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    params TEXT NOT NULL,
    status TEXT NOT NULL,
    started TEXT NOT NULL,
    ended TEXT,
    summary TEXT NOT NULL DEFAULT '{{}}'
);
CREATE TABLE IF NOT EXISTS changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    what TEXT NOT NULL,
    made TEXT NOT NULL
);
-- Both states of the changed box of a slice, zlib of (2, height, width) uint32: before and after.
CREATE TABLE IF NOT EXISTS overwritten (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    change INTEGER NOT NULL REFERENCES changes (id) ON DELETE CASCADE,
    z INTEGER NOT NULL,
    y0 INTEGER NOT NULL,
    x0 INTEGER NOT NULL,
    height INTEGER NOT NULL,
    width INTEGER NOT NULL,
    states BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS overwritten_by_change ON overwritten (change);
PRAGMA user_version = {LEDGER_VERSION};
COMMIT;
"""
