"""Jobs in one of three databases."""

import sqlite3

import mysql.connector
import psycopg2

MARKS = {"sqlite": "?", "mysql": "%s", "postgres": "%s"}


def connect(driver, arguments):
    """Connect; with create_database, make the database first."""
    arguments = dict(arguments)
    create = arguments.pop("create_database", False)
    if driver == "sqlite":
        return sqlite3.connect(**arguments)
    if driver == "mysql":
        database = arguments.pop("database")
        connection = mysql.connector.connect(**arguments)
        if create:
            connection.cursor().execute(f"CREATE DATABASE IF NOT EXISTS {database}")
        connection.database = database
        return connection
    database = arguments.pop("dbname")
    if create:
        connection = psycopg2.connect(**arguments)
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,))
        if cursor.fetchone() is None:
            cursor.execute(f"CREATE DATABASE {database}")
        connection.close()
    return psycopg2.connect(dbname=database, **arguments)


class Store:
    """A table of jobs."""

    def __init__(self, driver, arguments):
        self.driver = driver
        self.connection = connect(driver, arguments)
        self.execute("CREATE TABLE IF NOT EXISTS jobs (id VARCHAR(128) PRIMARY KEY, payload TEXT)")

    def execute(self, statement, values=()):
        cursor = self.connection.cursor()
        cursor.execute(statement.replace("?", MARKS[self.driver]), values)
        return cursor

    def put(self, job, payload):
        self.execute("INSERT INTO jobs (id, payload) VALUES (?, ?)", (job, payload))

    def get(self, job):
        found = self.execute("SELECT payload FROM jobs WHERE id = ?", (job,)).fetchone()
        return found[0] if found else None

    def count(self):
        return self.execute("SELECT count(*) FROM jobs").fetchone()[0]

    def version(self):
        question = "SELECT sqlite_version()" if self.driver == "sqlite" else "SELECT version()"
        return self.execute(question).fetchone()[0]

    def close(self):
        self.connection.rollback()
        self.connection.close()
