"""The books: tables, sessions and queries on SQLite; alone in knowing SQLAlchemy."""
