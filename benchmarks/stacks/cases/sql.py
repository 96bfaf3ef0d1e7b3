"""Databases: a query that takes a minute, and one that gives a number back."""

from __future__ import annotations

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


def _by_engine(url: str, slow: str = SLOW) -> tuple[Any, Any]:
    import sqlalchemy

    engine = sqlalchemy.create_engine(url)

    def query(statement: str) -> Any:
        with engine.connect() as connection:
            return connection.execute(sqlalchemy.text(statement)).fetchone()

    return _calls(query, slow)


def _awaited(fetch: Callable[[str], Any], slow: str = SLOW) -> tuple[Any, Any]:
    """What ``fetch`` gives is the number."""
    return lambda n: fetch(f"select {n}"), lambda: fetch(slow)


def _committing(connection: Any) -> Any:
    connection.autocommit = True
    return connection


add("psycopg 3", "psycopg", lambda it, at: _by_cursor(it.connect(dsn(at), autocommit=True)))


@case("psycopg 3, cancelled by a hook", "postgresql")
def _(at: At) -> Any:
    import psycopg

    connection = psycopg.connect(dsn(at), autocommit=True)
    return _shielded(connection, connection.cancel)


@case("psycopg 3, its pool", "postgresql")
def _(at: At) -> Any:
    import psycopg_pool

    pool = psycopg_pool.ConnectionPool(dsn(at), open=True, min_size=1, max_size=1)

    def query(statement: str) -> Any:
        with pool.connection() as connection:
            return connection.execute(statement).fetchone()

    return _calls(query)


@case("psycopg 3, async", "postgresql")
async def _(at: At) -> Any:
    import psycopg

    connection = await psycopg.AsyncConnection.connect(dsn(at), autocommit=True)

    async def query(statement: str) -> Any:
        return (await (await connection.execute(statement)).fetchone() or [None])[0]

    return _awaited(query)


@case("psycopg 3, its async pool", "postgresql")
async def _(at: At) -> Any:
    import psycopg_pool

    pool = psycopg_pool.AsyncConnectionPool(dsn(at), open=False, min_size=1, max_size=1)
    await pool.open()

    async def query(statement: str) -> Any:
        async with pool.connection() as connection:
            return (await (await connection.execute(statement)).fetchone() or [None])[0]

    return _awaited(query)


add(
    "SQLAlchemy with psycopg 3",
    "sqlalchemy",
    lambda _it, at: _by_engine(_postgresql(at, "psycopg")),
)


@case("SQLAlchemy's ORM with psycopg 3, a session for good", "postgresql")
def _(at: At) -> Any:
    import sqlalchemy
    from sqlalchemy.orm import Session

    url = _postgresql(at, "psycopg")
    session = Session(sqlalchemy.create_engine(url))
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


add("psycopg2", "psycopg2", lambda it, at: _by_cursor(_committing(it.connect(dsn(at)))))


@case("psycopg2, cancelled by a hook", "postgresql")
def _(at: At) -> Any:
    import psycopg2

    connection = _committing(psycopg2.connect(dsn(at)))
    return _shielded(connection, connection.cancel)


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


add(
    "SQLAlchemy with psycopg2",
    "sqlalchemy",
    lambda _it, at: _by_engine(_postgresql(at, "psycopg2")),
)


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

    url = _postgresql(at, "asyncpg")
    engine = create_async_engine(url, pool_size=1)

    async def query(statement: str) -> Any:
        async with engine.connect() as connection:
            return (await connection.execute(sqlalchemy.text(statement))).scalar()

    return _awaited(query)


@case("pg8000", "postgresql")
def _(at: At) -> Any:
    import pg8000.native

    connection = pg8000.native.Connection(NAME, host="127.0.0.1", port=at.port("postgresql"))
    return _calls(lambda statement: connection.run(statement)[0])


add("SQLAlchemy with pg8000", "sqlalchemy", lambda _it, at: _by_engine(_postgresql(at, "pg8000")))


add_mysql("pymysql", "pymysql", lambda it, at: _by_cursor(it.connect(**_login(at)), SLOW_MYSQL))


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


def _by_mysql_engine(at: At, driver: str) -> Any:
    return _by_engine(f"mysql+{driver}://root@127.0.0.1:{at.port('mariadb')}/", SLOW_MYSQL)


def _by_connector(it: Any, at: At, *, pure: bool) -> Any:
    connection = it.connect(**_login(at), use_pure=pure, ssl_disabled=True)
    return _by_cursor(connection, SLOW_MYSQL)


about = "SQLAlchemy with pymysql"
add_mysql(about, "pymysql", lambda _it, at: _by_mysql_engine(at, "pymysql"))


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


def _mysqlclient(it: Any, at: At) -> Any:
    return _by_cursor(it.connect(**_login(at)), SLOW_MYSQL)


add_mysql("mysqlclient", "MySQLdb", _mysqlclient, needs="MySQLdb")


@case("mysqlclient, cancelled by a hook", "mariadb", "MySQLdb")
def _(at: At) -> Any:
    import MySQLdb

    connection = MySQLdb.connect(**_login(at))
    number = connection.thread_id()  # while it is busy, it does not say

    def kill() -> None:
        with MySQLdb.connect(**_login(at)).cursor() as other:
            other.execute(f"kill query {number}")

    return _shielded(connection, kill, SLOW_MYSQL)


about = "SQLAlchemy with mysqlclient"
add_mysql(about, "MySQLdb", lambda _it, at: _by_mysql_engine(at, "mysqldb"), needs="MySQLdb")


@case("sqlite3, cancelled by a hook")
def _(_at: At) -> Any:
    import sqlite3

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
