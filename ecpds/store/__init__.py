"""Metadata: SQLite behind functions per aggregate; the only package that imports sqlite3."""
