"""Databases: a query that takes a minute, and one that gives a number back."""

from __future__ import annotations

from typing import Any

from watchdog_lambda import scoped_hook, shield

from . import At, Make
from .queries import (
    NAME,
    by_connection,
    by_cursor,
    cancelled,
    committing,
    dsn,
    duckdb,
    engine,
    login,
    mysql,
    mysql_login,
    postgresql,
    sqlite,
    url,
)

# ---- PostgreSQL ----------------------------------------------------------------------------------


def _cancellable(it: Any, at: At) -> Any:
    connection = committing(it, at)
    return connection, connection.cancel


def _pool(it: Any, at: At) -> Any:
    return it.ConnectionPool(dsn(at), open=True, min_size=1, max_size=1).connection, str


postgresql("psycopg 3", "psycopg", committing)(by_cursor)
postgresql("psycopg 3, cancelled by a hook", "psycopg", _cancellable)(cancelled)
postgresql("psycopg 3, its pool", "psycopg_pool", _pool)(by_connection)


@postgresql(
    "psycopg 3, async",
    "psycopg",
    lambda it, at: it.AsyncConnection.connect(dsn(at), autocommit=True),
)
async def _first(connection: Any, statement: str) -> Any:
    return (await (await connection.execute(statement)).fetchone() or [None])[0]


async def _async_pool(it: Any, at: At) -> Any:
    pool = it.AsyncConnectionPool(dsn(at), open=False, min_size=1, max_size=1)
    await pool.open()
    return pool


@postgresql("psycopg 3, its async pool", "psycopg_pool", _async_pool)
async def _(pool: Any, statement: str) -> Any:
    async with pool.connection() as connection:
        return await _first(connection, statement)


postgresql("SQLAlchemy with psycopg 3", "psycopg", engine("psycopg"))(by_connection)


def _session(it: Any, at: At) -> Any:
    from sqlalchemy.orm import Session

    return Session(it.create_engine(url(at, "psycopg"))), it.text


@postgresql("SQLAlchemy's ORM with psycopg 3, a session for good", "sqlalchemy", _session)
def _(made: Any, statement: str) -> Any:
    session, text = made
    return session.execute(text(statement)).fetchone()


def _django(_library: Any, at: At) -> Any:
    from django.conf import settings
    from django.db import connection

    own = {"HOST": "127.0.0.1", "PORT": at.port("postgresql"), "USER": NAME, "NAME": NAME}
    if not settings.configured:
        engine = "django.db.backends.postgresql"
        settings.configure(DATABASES={"default": {"ENGINE": engine, **own}})
    return connection


@postgresql("Django with psycopg 3", "django", _django)
def _(connection: Any, statement: str) -> Any:
    # As a request's beginning does.
    connection.close_if_unusable_or_obsolete()
    return by_cursor(connection, statement)


def _waiting(it: Any, at: At) -> Any:
    from psycopg2 import extensions, extras

    extensions.set_wait_callback(extras.wait_select)
    return it.connect(dsn(at))


postgresql("psycopg2", "psycopg2", committing)(by_cursor)
postgresql("psycopg2, cancelled by a hook", "psycopg2", _cancellable)(cancelled)


@postgresql(
    "psycopg2, its pool", "psycopg2.pool", lambda it, at: it.ThreadedConnectionPool(1, 2, dsn(at))
)
def _(pool: Any, statement: str) -> Any:
    connection = pool.getconn()
    try:
        return by_cursor(connection, statement)
    finally:
        pool.putconn(connection)


postgresql("psycopg2 with wait_select", "psycopg2", _waiting)(by_cursor)
postgresql("SQLAlchemy with psycopg2", "psycopg2", engine("psycopg2"))(by_connection)


def _pinging(it: Any, at: At) -> Any:
    return it.create_engine(url(at, "psycopg2"), pool_pre_ping=True, pool_size=1).begin, it.text


postgresql("SQLAlchemy with psycopg2, pre-ping", "sqlalchemy", _pinging)(by_connection)


@postgresql("peewee with psycopg2", "peewee", lambda it, at: it.PostgresqlDatabase(**login(at)))
def _(database: Any, statement: str) -> Any:
    with database.connection_context():
        return database.execute_sql(statement).fetchone()


async def _value(it: Any, statement: str) -> Any:
    return await it.fetchval(statement)


postgresql("asyncpg", "asyncpg", lambda it, at: it.connect(**login(at)))(_value)
postgresql(
    "asyncpg, its pool",
    "asyncpg",
    lambda it, at: it.create_pool(**login(at), min_size=1, max_size=1),
)(_value)


@postgresql(
    "SQLAlchemy with asyncpg",
    "sqlalchemy.ext.asyncio",
    lambda it, at: it.create_async_engine(url(at, "asyncpg"), pool_size=1),
)
async def _(engine: Any, statement: str) -> Any:
    import sqlalchemy

    async with engine.connect() as connection:
        return (await connection.execute(sqlalchemy.text(statement))).scalar()


@postgresql(
    "pg8000",
    "pg8000.native",
    lambda it, at: it.Connection(NAME, host="127.0.0.1", port=at.port("postgresql")),
)
def _(connection: Any, statement: str) -> Any:
    return connection.run(statement)[0]


postgresql("SQLAlchemy with pg8000", "pg8000", engine("pg8000"))(by_connection)


# ---- MariaDB, and what needs no server -----------------------------------------------------------


def _connected(it: Any, at: At, **options: bool) -> Any:
    return it.connect(**mysql_login(at), **options)


def _connector(*, pure: bool) -> Make:
    return lambda it, at: _connected(it, at, use_pure=pure, ssl_disabled=True)


def _killable(it: Any, at: At) -> Any:
    connection = _connected(it, at)
    number = connection.thread_id()  # while it is busy, it does not say

    def kill() -> None:
        with _connected(it, at).cursor() as other:
            other.execute(f"kill query {number}")

    return connection, kill


mysql("pymysql", "pymysql", _connected)(by_cursor)


@mysql("pymysql, pinged before each query", "pymysql", _connected)
def _(connection: Any, statement: str) -> Any:
    connection.ping(reconnect=True)
    return by_cursor(connection, statement)


mysql("SQLAlchemy with pymysql", "pymysql", engine("pymysql"))(by_connection)


@mysql(
    "aiomysql",
    "aiomysql",
    lambda it, at: it.create_pool(**mysql_login(at), minsize=1, maxsize=1),
)
async def _(pool: Any, statement: str) -> Any:
    async with pool.acquire() as connection, connection.cursor() as cursor:
        await cursor.execute(statement)
        return (await cursor.fetchone())[0]


for how, pure in (("Python", True), ("C", False)):
    mysql(f"MySQL's connector, in {how}", "mysql.connector", _connector(pure=pure))(by_cursor)
mysql("mysqlclient", "MySQLdb", _connected)(by_cursor)
mysql("mysqlclient, cancelled by a hook", "MySQLdb", _killable)(cancelled)
mysql("SQLAlchemy with mysqlclient", "MySQLdb", engine("mysqldb"))(by_connection)


def _interruptible(it: Any, _at: At) -> Any:
    connection = it.connect(":memory:", check_same_thread=False)
    return connection, connection.interrupt


sqlite("sqlite3, cancelled by a hook", "sqlite3", _interruptible)(cancelled)


@duckdb("duckdb", "duckdb", lambda it, _at: it.connect())
def _(connection: Any, statement: str) -> Any:
    return connection.execute(statement).fetchone()


@duckdb("duckdb, cancelled by a hook", "duckdb", lambda it, _at: it.connect())
def _(connection: Any, statement: str) -> Any:
    # Its cursors are connections of their own.
    with scoped_hook(connection.interrupt), shield():
        return connection.execute(statement).fetchone()
