"""Where it is kept: SQLite or PostgreSQL, media, keys, erasure, exports."""
