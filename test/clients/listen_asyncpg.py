"""listen_asyncpg.py FILE END CHANNEL...: listens with asyncpg, see heard.py."""

import asyncio
import sys

import asyncpg

from heard import SILENCE, Heard


async def listen(heard, channels):
    notifications = asyncio.Queue()

    def take(_connection, pid, channel, payload):
        notifications.put_nowait((pid, channel, payload))

    connection = await asyncpg.connect()
    for channel in channels:
        await connection.add_listener(channel, take)
    while heard.expected is None or heard.missing():
        message_id = heard.note(*await asyncio.wait_for(notifications.get(), SILENCE))
        if message_id is not None:
            # On the same connection: what is announced meanwhile waits in the queue.
            payload = await connection.fetchval("SELECT herald.fetch($1)", message_id)
            heard.note_fetched(message_id, payload)
    await connection.close()


heard = Heard(*sys.argv[1:3])
try:
    asyncio.run(listen(heard, sys.argv[2:]))
except asyncio.TimeoutError:
    pass
heard.finish("asyncpg")
