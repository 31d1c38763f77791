"""PostgreSQL and TimescaleDB: the only place that knows SQL and asyncpg."""
