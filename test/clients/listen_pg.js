// listen_pg.js FILE END CHANNEL...: listens with node-postgres, see heard.py.

'use strict';

const { Client, types } = require('pg');
const { Heard } = require('./heard');

types.setTypeParser(types.builtins.JSONB, (text) => text);

async function listen(path, end, channels) {
  const client = new Client();
  await client.connect();
  const heard = new Heard('node-postgres', path, end, () => client.end());
  client.on('notification', async ({ processId, channel, payload }) => {
    const messageId = heard.note(processId, channel, payload);
    if (messageId === undefined) return;
    const { rows } = await client.query('SELECT herald.fetch($1) AS payload', [messageId]);
    heard.noteFetched(messageId, rows[0].payload);
  });
  for (const channel of channels) await client.query(`LISTEN ${client.escapeIdentifier(channel)}`);
}

listen(process.argv[2], process.argv[3], process.argv.slice(3));
