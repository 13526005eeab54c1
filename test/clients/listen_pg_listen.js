// listen_pg_listen.js FILE END CHANNEL...: listens with pg-listen, see heard.py.

'use strict';

const assert = require('assert');
const { Pool, types } = require('pg');
const createSubscriber = require('pg-listen').default;
const { Heard } = require('./heard');

types.setTypeParser(types.builtins.JSONB, (text) => text);

async function listen(path, end, channels) {
  // It would take every payload for JSON.
  const subscriber = createSubscriber({}, { parse: (text) => text });
  const pool = new Pool({ max: 1 });
  const heard = new Heard('pg-listen', path, end, async () => {
    await subscriber.close();
    await pool.end();
  });
  subscriber.events.on('error', (error) => { throw error; });
  // What it is made for is one emitter with an event for each channel; only the other one tells the pid.
  let last;
  for (const channel of channels) {
    subscriber.notifications.on(channel, (payload) => { last = [channel, payload]; });
  }
  subscriber.events.on('notification', async ({ processId, channel, payload }) => {
    assert.deepStrictEqual([channel, payload], last);
    // Empty ones are undefined here.
    const messageId = heard.note(processId, channel, payload ?? '');
    if (messageId === undefined) return;
    const { rows } = await pool.query('SELECT herald.fetch($1) AS payload', [messageId]);
    heard.noteFetched(messageId, rows[0].payload);
  });
  await subscriber.connect();
  for (const channel of channels) await subscriber.listenTo(channel);
}

listen(process.argv[2], process.argv[3], process.argv.slice(3));
