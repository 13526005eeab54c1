// calls_pg.js: publishes with node-postgres, which sends text and no types; see driver_calls.pl.

'use strict';

const { Client } = require('pg');

const number = '00000000-0000-0000-0000-000000000001';

async function publish() {
  const client = new Client();
  const call = (sql, ...parameters) => client.query(sql, parameters);
  await client.connect();
  await call('SELECT herald.publish($1, $2)', 'calls', '{"n": 1}');
  await call('SELECT herald.publish($1, $2)', 'calls', { n: 2 });
  await call('SELECT herald.publish($1, $2, $3)', 'calls', { n: 3 }, 42);
  await call('SELECT herald.publish($1, $2, $3)', 'calls', { n: 4 }, number);
  await call('SELECT herald.publish($1, $2, $3, $4)', 'calls', { n: 5 }, 'k', { h: 5 });
  await call('SELECT herald.publish_batch($1, $2)', 'calls', ['{"n": 6}', '[7]']);
  await call('SELECT herald.publish_batch($1, $2, $3, $4)', 'calls', [{ n: 8 }, { n: 9 }], ['a', null], [{ h: 8 }, null]);
  await call('SELECT herald.publish_batch($1, $2)', 'calls', [{ n: 10 }]);
  try {
    await call('SELECT herald.publish_batch($1, $2)', 'calls', [[1, 2], [3, 4]]);
  } catch (error) {
    console.log(error.code);
  }
  await client.end();
}

publish();
