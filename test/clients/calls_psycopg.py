"""calls_psycopg.py: publishes with psycopg 3, with the types that it gives to parameters; see driver_calls.pl."""

import uuid

import psycopg
from psycopg.types.json import Json, Jsonb

NUMBER = uuid.UUID("00000000-0000-0000-0000-000000000001")

with psycopg.connect(autocommit=True) as connection:
    def call(sql, *parameters):
        return connection.execute(sql, parameters).fetchall()

    call("SELECT herald.publish(%s, %s)", "calls", '{"n": 1}')
    call("SELECT herald.publish(%s, %s)", "calls", Jsonb({"n": 2}))
    call("SELECT herald.publish(%s, %s, %s)", "calls", Jsonb({"n": 3}), 42)
    call("SELECT herald.publish(%s, %s, %s)", "calls", Json({"n": 4}), NUMBER)
    call("SELECT herald.publish(%s, %s, %s, %s)", "calls", Json({"n": 5}), "k", Json({"h": 5}))
    call("SELECT herald.publish_batch(%s, %s)", "calls", ['{"n": 6}', "[7]"])
    call("SELECT herald.publish_batch(%s, %s, %s, %s)", "calls", [Json({"n": 8}), Json({"n": 9})], ["a", None],
         [Json({"h": 8}), None])
    call("SELECT herald.publish_batch(%s, %s)", "calls", [Jsonb({"n": 10})])
    try:
        call("SELECT herald.publish_batch(%s, %s)", "calls", [[Jsonb(1), Jsonb(2)], [Jsonb(3), Jsonb(4)]])
    except psycopg.Error as error:
        print(error.sqlstate)
