"""calls_psycopg2.py: publishes with psycopg2, which writes parameters into the statement; see driver_calls.pl."""

import uuid

import psycopg2
from psycopg2.extras import Json, register_uuid

NUMBER = uuid.UUID("00000000-0000-0000-0000-000000000001")

register_uuid()
connection = psycopg2.connect("")
connection.autocommit = True


def call(sql, *parameters):
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


call("SELECT herald.publish(%s, %s)", "calls", '{"n": 1}')
call("SELECT herald.publish(%s, %s)", "calls", Json({"n": 2}))
call("SELECT herald.publish(%s, %s, %s)", "calls", Json({"n": 3}), 42)
call("SELECT herald.publish(%s, %s, %s)", "calls", Json({"n": 4}), NUMBER)
call("SELECT herald.publish(%s, %s, %s, %s)", "calls", Json({"n": 5}), "k", Json({"h": 5}))
call("SELECT herald.publish_batch(%s, %s)", "calls", ['{"n": 6}', "[7]"])
call("SELECT herald.publish_batch(%s, %s, %s, %s)", "calls", [Json({"n": 8}), Json({"n": 9})], ["a", None],
     [Json({"h": 8}), None])
call("SELECT herald.publish_batch(%s, %s)", "calls", [Json({"n": 10})])
try:
    call("SELECT herald.publish_batch(%s, %s)", "calls", [["1", "2"], ["3", "4"]])
except psycopg2.Error as error:
    print(error.pgcode)
