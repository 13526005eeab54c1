#!/usr/bin/python3
"""A worker of your own behind examples/bridge.sql: takes jobs from a table, one at a time.

    examples/bridge.py [--until-idle]

It connects as psql does (PGHOST, PGDATABASE, ...) and needs psycopg 3 (Debian: python3-psycopg). Start as many as
you like. --until-idle ends it when nothing is left to do.
"""

import datetime
import sys

import psycopg

TAKE = """
    SELECT message_id, payload, attempts FROM herald_demo_bridge.job
     WHERE not_before <= now() ORDER BY message_id LIMIT 1 FOR UPDATE SKIP LOCKED
"""
DONE = "DELETE FROM herald_demo_bridge.job WHERE message_id = %s"
FAILED = """
    UPDATE herald_demo_bridge.job
       SET attempts = attempts + 1, error = %s, not_before = now() + %s
     WHERE message_id = %s
"""
LEFT = "SELECT extract(epoch FROM min(not_before) - now())::float8 FROM herald_demo_bridge.job"


def work(connection, message_id, payload):
    """The work itself. What it writes to this database commits together with the removal of the job."""
    if "to" not in payload:
        raise ValueError("a mail needs a recipient")
    connection.execute(
        "INSERT INTO herald_demo_bridge.sent (message_id, recipient) VALUES (%s, %s)", (message_id, payload["to"]))


def take_one(connection):
    """False if there is nothing to do now."""
    with connection.transaction():
        job = connection.execute(TAKE).fetchone()
        if job is None:
            return False
        message_id, payload, attempts = job
        try:
            with connection.transaction():  # a savepoint: the job stays ours
                work(connection, message_id, payload)
        except Exception as error:  # pylint: disable=broad-except
            pause = datetime.timedelta(seconds=min(2**attempts, 300))
            connection.execute(FAILED, (str(error), pause, message_id))
        else:
            connection.execute(DONE, (message_id,))
    return True


def main():
    until_idle = "--until-idle" in sys.argv[1:]
    with psycopg.connect(autocommit=True) as connection:
        # Before the first look, so that nothing falls in between.
        connection.execute("LISTEN herald_demo_bridge")
        while True:
            while take_one(connection):
                pass
            seconds = connection.execute(LEFT).fetchone()[0]
            if until_idle and (seconds is None or seconds > 0):
                return
            # A job that waits for its next attempt notifies nobody.
            for _ in connection.notifies(timeout=max(0.05, min(seconds or 60, 60)), stop_after=1):
                pass


if __name__ == "__main__":
    main()
