// What the peers' programs have in common: they say "ready", wait for "go", and upon "stop" tell how
// many tasks they have handled, and when the first one began (milliseconds since 1970).

const readline = require('node:readline');

const tally = { handled: 0, first: 0 };

// The task of a queue in JavaScript: nothing, or one statement with a commit of its own.
exports.makeHandler = (name, query) => async (payload) => {
  if (tally.first === 0) tally.first = Date.now();
  if (name !== 'nothing') await query(`SELECT bench.${name}($1::jsonb)`, [JSON.stringify(payload)]);
  tally.handled += 1;
};

exports.serve = async (start, stop) => {
  const fail = (error) => { console.error(error); process.exit(1); };
  console.log('ready');
  for await (const line of readline.createInterface({ input: process.stdin })) {
    if (line === 'go') await start().catch(fail);
    if (line === 'stop') await stop().catch(fail);
    console.log(line === 'stop' ? `${tally.handled} ${tally.first}` : 'running');
    if (line === 'stop') process.exit(0);
  }
  process.exit(1);  // whoever started it is gone
};
