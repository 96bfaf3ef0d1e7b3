"""What the databases' cases have in common: where they are, and how a statement is run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, TypeVar

from watchdog_lambda import scoped_hook, shield

from . import MARK, At, Make, case

_Fetch = TypeVar("_Fetch", bound="Callable[[Any, str], Any]")

SLOW_SQLITE = """with recursive n(i) as (select 1 union all select i + 1 from n)
select count(*) from n"""
NAME = "postgres"


def query(
    server: str | None, slow: str, name: str, library: str, made: Make
) -> Callable[[_Fetch], _Fetch]:
    """Enter what fetches the row of a statement, or awaits its number, from what is `made`."""

    def enter(fetch: _Fetch) -> _Fetch:
        def ask(it: Any, n: int) -> Any:
            return fetch(it, f"select {n}")[0]

        async def ask_awaited(it: Any, n: int) -> Any:
            return await fetch(it, f"select {n}")

        chosen = ask_awaited if iscoroutinefunction(fetch) else ask
        case(name, server, library, made, hang=lambda it: fetch(it, slow), family="sql")(chosen)
        return fetch

    return enter


postgresql = partial(query, "postgresql", f"select pg_sleep(60) /* {MARK} */")
mysql = partial(query, "mariadb", f"select sleep(60) /* {MARK} */")
sqlite = partial(query, None, SLOW_SQLITE)
duckdb = partial(query, None, "select sum(a.i * b.i) from range(1000000) a(i), range(1000000) b(i)")


def dsn(at: At) -> str:
    """Of PostgreSQL."""
    return f"host=127.0.0.1 port={at.port('postgresql')} user={NAME} dbname={NAME}"


def login(at: At) -> dict[str, Any]:
    """The same, for what takes it in parts."""
    return {"host": "127.0.0.1", "port": at.port("postgresql"), "user": NAME, "database": NAME}


def mysql_login(at: At) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": at.port("mariadb"), "user": "root"}


def url(at: At, driver: str) -> str:
    """SQLAlchemy's, of a database by one of its drivers."""
    if "mysql" in driver:
        return f"mysql+{driver}://root@127.0.0.1:{at.port('mariadb')}/"
    return f"postgresql+{driver}://{NAME}@127.0.0.1:{at.port('postgresql')}/{NAME}"


def committing(it: Any, at: At) -> Any:
    """A connection by PEP 249 that commits by itself."""
    connection = it.connect(dsn(at))
    connection.autocommit = True
    return connection


def by_cursor(connection: Any, statement: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()


def cancelled(made: Any, statement: str) -> Any:
    """The same, with the query cancelled by a hook."""
    connection, cancel = made
    with scoped_hook(cancel), shield():
        cursor = connection.cursor()
        cursor.execute(statement)
        return cursor.fetchone()


def engine(driver: str, **options: Any) -> Make:
    """What connects by SQLAlchemy, and what makes statements for it."""

    def make(_driver: Any, at: At) -> Any:
        import sqlalchemy

        return sqlalchemy.create_engine(url(at, driver), **options).connect, sqlalchemy.text

    return make


def by_connection(made: Any, statement: str) -> Any:
    """With a connection for each query, of a pool."""
    connect, text = made
    with connect() as connection:
        return connection.execute(text(statement)).fetchone()
