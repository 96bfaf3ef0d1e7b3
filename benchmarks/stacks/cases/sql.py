"""Databases: a query that takes a minute, and one that gives a number back."""

from __future__ import annotations

import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any

from watchdog_lambda import scoped_hook, shield

from . import MARK, At, case, entering

if TYPE_CHECKING:
    from collections.abc import Callable

SLOW = f"select pg_sleep(60) /* {MARK} */"
SLOW_MYSQL = f"select sleep(60) /* {MARK} */"
SLOW_SQLITE = """with recursive n(i) as (select 1 union all select i + 1 from n)
select count(*) from n"""
SLOW_DUCKDB = "select sum(a.i * b.i) from range(1000000) a(i), range(1000000) b(i)"
NAME = "postgres"

add, add_mysql = entering("postgresql"), entering("mariadb")


def dsn(at: At) -> str:
    """Of PostgreSQL."""
    return f"host=127.0.0.1 port={at.port('postgresql')} user={NAME} dbname={NAME}"


def _login_of_postgresql(at: At) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": at.port("postgresql"), "user": NAME, "database": NAME}


def _postgresql(at: At, driver: str) -> str:
    return f"postgresql+{driver}://{NAME}@127.0.0.1:{at.port('postgresql')}/{NAME}"


def _mysql(at: At, driver: str) -> str:
    return f"mysql+{driver}://root@127.0.0.1:{at.port('mariadb')}/"


def _login(at: At) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": at.port("mariadb"), "user": "root"}


def _calls(query: Callable[[str], Any], slow: str = SLOW) -> tuple[Any, Any]:
    return lambda n: query(f"select {n}")[0], lambda: query(slow)


def _by_cursor(connection: Any, slow: str = SLOW) -> tuple[Any, Any]:
    """A connection by PEP 249 that commits by itself."""

    def query(statement: str) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()

    return _calls(query, slow)


def _shielded(connection: Any, cancel: Callable[[], object], slow: str = SLOW) -> tuple[Any, Any]:
    """The same, with the query cancelled by a hook."""

    def query(statement: str) -> Any:
        with scoped_hook(cancel), shield():
            cursor = connection.cursor()
            cursor.execute(statement)
            return cursor.fetchone()

    return _calls(query, slow)


def _by_engine(driver: str) -> Callable[[Any, At], Any]:
    def make(sqlalchemy: Any, at: At) -> Any:
        is_mysql = "mysql" in driver
        url = _mysql(at, driver) if is_mysql else _postgresql(at, driver)
        engine = sqlalchemy.create_engine(url)

        def query(statement: str) -> Any:
            with engine.connect() as connection:
                return connection.execute(sqlalchemy.text(statement)).fetchone()

        return _calls(query, SLOW_MYSQL if is_mysql else SLOW)

    return make


def _awaited(fetch: Callable[[str], Any], slow: str = SLOW) -> tuple[Any, Any]:
    """What ``fetch`` gives is the number."""
    return lambda n: fetch(f"select {n}"), lambda: fetch(slow)


def _committing(it: Any, at: At) -> Any:
    connection = it.connect(dsn(at))
    connection.autocommit = True
    return connection


def _by_mysql(it: Any, at: At, **options: bool) -> Any:
    return _by_cursor(it.connect(**_login(at), **options), SLOW_MYSQL)


def _cancelled(it: Any, at: At) -> Any:
    connection = _committing(it, at)
    return _shielded(connection, connection.cancel)


add("psycopg 3", "psycopg", lambda it, at: _by_cursor(_committing(it, at)))
add("psycopg 3, cancelled by a hook", "psycopg", _cancelled)


@case("psycopg 3, its pool", "postgresql")
def _(at: At) -> Any:
    import psycopg_pool

    pool = psycopg_pool.ConnectionPool(dsn(at), open=True, min_size=1, max_size=1)

    def query(statement: str) -> Any:
        with pool.connection() as connection:
            return connection.execute(statement).fetchone()

    return _calls(query)


async def _first(connection: Any, statement: str) -> Any:
    return (await (await connection.execute(statement)).fetchone() or [None])[0]


@case("psycopg 3, async", "postgresql")
async def _(at: At) -> Any:
    import psycopg

    connection = await psycopg.AsyncConnection.connect(dsn(at), autocommit=True)

    return _awaited(partial(_first, connection))


@case("psycopg 3, its async pool", "postgresql")
async def _(at: At) -> Any:
    import psycopg_pool

    pool = psycopg_pool.AsyncConnectionPool(dsn(at), open=False, min_size=1, max_size=1)
    await pool.open()

    async def query(statement: str) -> Any:
        async with pool.connection() as connection:
            return await _first(connection, statement)

    return _awaited(query)


add("SQLAlchemy with psycopg 3", "sqlalchemy", _by_engine("psycopg"))


@case("SQLAlchemy's ORM with psycopg 3, a session for good", "postgresql")
def _(at: At) -> Any:
    import sqlalchemy
    from sqlalchemy.orm import Session

    session = Session(sqlalchemy.create_engine(_postgresql(at, "psycopg")))
    return _calls(lambda statement: session.execute(sqlalchemy.text(statement)).fetchone())


@case("Django with psycopg 3", "postgresql")
def _(at: At) -> Any:
    from django.conf import settings
    from django.db import connection

    login = {"HOST": "127.0.0.1", "PORT": at.port("postgresql"), "USER": NAME, "NAME": NAME}
    if not settings.configured:
        engine = "django.db.backends.postgresql"
        settings.configure(DATABASES={"default": {"ENGINE": engine, **login}})

    def query(statement: str) -> Any:
        # As a request's beginning does.
        connection.close_if_unusable_or_obsolete()
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()

    return _calls(query)


add("psycopg2", "psycopg2", lambda it, at: _by_cursor(_committing(it, at)))
add("psycopg2, cancelled by a hook", "psycopg2", _cancelled)


@case("psycopg2, its pool", "postgresql")
def _(at: At) -> Any:
    from psycopg2 import pool

    threaded = pool.ThreadedConnectionPool(1, 2, dsn(at))

    def query(statement: str) -> Any:
        connection = threaded.getconn()
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchone()
        finally:
            threaded.putconn(connection)

    return _calls(query)


@case("psycopg2 with wait_select", "postgresql")
def _(at: At) -> Any:
    import psycopg2
    from psycopg2 import extensions, extras

    extensions.set_wait_callback(extras.wait_select)
    return _by_cursor(psycopg2.connect(dsn(at)))


add("SQLAlchemy with psycopg2", "sqlalchemy", _by_engine("psycopg2"))


@case("SQLAlchemy with psycopg2, pre-ping", "postgresql")
def _(at: At) -> Any:
    import sqlalchemy

    url = _postgresql(at, "psycopg2")
    engine = sqlalchemy.create_engine(url, pool_pre_ping=True, pool_size=1)

    def query(statement: str) -> Any:
        with engine.begin() as connection:
            return connection.execute(sqlalchemy.text(statement)).fetchone()

    return _calls(query)


@case("peewee with psycopg2", "postgresql")
def _(at: At) -> Any:
    import peewee

    database = peewee.PostgresqlDatabase(**_login_of_postgresql(at))

    def query(statement: str) -> Any:
        with database.connection_context():
            return database.execute_sql(statement).fetchone()

    return _calls(query)


@case("asyncpg", "postgresql")
async def _(at: At) -> Any:
    import asyncpg

    connection = await asyncpg.connect(**_login_of_postgresql(at))
    return _awaited(connection.fetchval)


@case("asyncpg, its pool", "postgresql")
async def _(at: At) -> Any:
    import asyncpg

    pool = await asyncpg.create_pool(**_login_of_postgresql(at), min_size=1, max_size=1)
    return _awaited(pool.fetchval)


@case("SQLAlchemy with asyncpg", "postgresql")
async def _(at: At) -> Any:
    import sqlalchemy
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(_postgresql(at, "asyncpg"), pool_size=1)

    async def query(statement: str) -> Any:
        async with engine.connect() as connection:
            return (await connection.execute(sqlalchemy.text(statement))).scalar()

    return _awaited(query)


@case("pg8000", "postgresql")
def _(at: At) -> Any:
    import pg8000.native

    connection = pg8000.native.Connection(NAME, host="127.0.0.1", port=at.port("postgresql"))
    return _calls(lambda statement: connection.run(statement)[0])


add("SQLAlchemy with pg8000", "sqlalchemy", _by_engine("pg8000"))
add_mysql("pymysql", "pymysql", _by_mysql)


@case("pymysql, pinged before each query", "mariadb")
def _(at: At) -> Any:
    import pymysql

    connection = pymysql.connect(**_login(at))

    def query(statement: str) -> Any:
        connection.ping(reconnect=True)
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()

    return _calls(query, SLOW_MYSQL)


def _by_connector(it: Any, at: At, *, pure: bool) -> Any:
    return _by_mysql(it, at, use_pure=pure, ssl_disabled=True)


add_mysql("SQLAlchemy with pymysql", "sqlalchemy", _by_engine("pymysql"))


@case("aiomysql", "mariadb")
async def _(at: At) -> Any:
    import aiomysql

    pool = await aiomysql.create_pool(**_login(at), minsize=1, maxsize=1)

    async def query(statement: str) -> Any:
        async with pool.acquire() as connection, connection.cursor() as cursor:
            await cursor.execute(statement)
            return (await cursor.fetchone())[0]

    return _awaited(query, SLOW_MYSQL)


connector = "mysql.connector"
about = "MySQL's connector, in Python"
add_mysql(about, connector, lambda it, at: _by_connector(it, at, pure=True))
about = "MySQL's connector, in C"
add_mysql(about, connector, lambda it, at: _by_connector(it, at, pure=False))


add_mysql("mysqlclient", "MySQLdb", _by_mysql, needs="MySQLdb")


@case("mysqlclient, cancelled by a hook", "mariadb", "MySQLdb")
def _(at: At) -> Any:
    import MySQLdb

    connection = MySQLdb.connect(**_login(at))
    number = connection.thread_id()  # while it is busy, it does not say

    def kill() -> None:
        with MySQLdb.connect(**_login(at)).cursor() as other:
            other.execute(f"kill query {number}")

    return _shielded(connection, kill, SLOW_MYSQL)


add_mysql("SQLAlchemy with mysqlclient", "sqlalchemy", _by_engine("mysqldb"), needs="MySQLdb")


@case("sqlite3, cancelled by a hook")
def _(_at: At) -> Any:
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    return _shielded(connection, connection.interrupt, SLOW_SQLITE)


@case("duckdb")
def _(_at: At) -> Any:
    import duckdb

    connection = duckdb.connect()
    return _calls(lambda statement: connection.execute(statement).fetchone(), SLOW_DUCKDB)


@case("duckdb, cancelled by a hook")
def _(_at: At) -> Any:
    import duckdb

    connection = duckdb.connect()

    def query(statement: str) -> Any:
        # Its cursors are connections of their own.
        with scoped_hook(connection.interrupt), shield():
            return connection.execute(statement).fetchone()

    return _calls(query, SLOW_DUCKDB)
