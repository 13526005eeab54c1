"""listen_psycopg.py FILE END CHANNEL...: listens with psycopg 3, see heard.py."""

import signal
import sys

import psycopg
from psycopg import sql
from psycopg.types.json import set_json_loads

from heard import SILENCE, Heard


class Silence(Exception):
    pass


def give_up(*_):
    raise Silence


def listen(heard, channels):
    # Two connections: before 3.2.4 notifications that arrive with the result of a query are not handed
    # to notifies(), since 3.2 a query within the loop waits for ever.
    with (psycopg.connect(autocommit=True) as listening,
          psycopg.connect(autocommit=True) as fetching):
        set_json_loads(bytes, fetching)
        for channel in channels:
            listening.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        signal.alarm(SILENCE)
        for notification in listening.notifies():
            signal.alarm(SILENCE)
            message_id = heard.note(notification.pid, notification.channel, notification.payload)
            if message_id is not None:
                row = fetching.execute("SELECT herald.fetch(%s)", [message_id]).fetchone()
                heard.note_fetched(message_id, row[0])
            if heard.expected is not None and not heard.missing():
                break


signal.signal(signal.SIGALRM, give_up)
heard = Heard(*sys.argv[1:3])
try:
    listen(heard, sys.argv[2:])
except Silence:
    pass
heard.finish("psycopg")
