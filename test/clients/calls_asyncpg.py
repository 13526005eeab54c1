"""calls_asyncpg.py: publishes with asyncpg, which goes by the types that the server gives to parameters; see
driver_calls.pl."""

import asyncio
import json

import asyncpg


async def publish():
    connection = await asyncpg.connect()
    call = connection.fetch
    await call("SELECT herald.publish($1, $2)", "calls", '{"n": 1}')
    # What many programs do, and then pass objects: for it $2 has to be told from text.
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
    await call("SELECT herald.publish($1, $2::jsonb)", "calls", {"n": 2})
    await call("SELECT herald.publish($1, $2::jsonb, $3::int)", "calls", {"n": 3}, 42)
    await call("SELECT herald.publish($1, $2::jsonb, $3::uuid)", "calls", {"n": 4}, "00000000-0000-0000-0000-000000000001")
    await call("SELECT herald.publish($1, $2::jsonb, $3, $4)", "calls", {"n": 5}, "k", {"h": 5})
    await call("SELECT herald.publish_batch($1, $2::text[])", "calls", ['{"n": 6}', "[7]"])
    await call("SELECT herald.publish_batch($1, $2, $3, $4)", "calls", [{"n": 8}, {"n": 9}], ["a", None], [{"h": 8}, None])
    await call("SELECT herald.publish_batch($1, $2)", "calls", [{"n": 10}])
    try:
        await call("SELECT herald.publish_batch($1, $2::text[])", "calls", [["1", "2"], ["3", "4"]])
    except asyncpg.PostgresError as error:
        print(error.sqlstate)
    await connection.close()


asyncio.run(publish())
