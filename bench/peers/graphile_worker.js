// graphile-worker: node graphile_worker.js HANDLER default|local_queue

const { Logger, run } = require('graphile-worker');
const { Pool } = require('pg');
const { makeHandler, serve } = require('./protocol.js');

const [handlerName, mode] = process.argv.slice(2);
// "local_queue" is the configuration of its documentation's page about performance.
const options = mode === 'default'
  ? { concurrentJobs: 4 }
  : {
      concurrentJobs: 24,
      maxPoolSize: 25,
      localQueue: { size: 500 },
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
    };
const pgPool = new Pool({ max: options.maxPoolSize ?? 10 });
// It warns of a pool without them.
pgPool.on('error', console.error);
pgPool.on('connect', (client) => { client.on('error', console.error); });
const handle = makeHandler(handlerName, (sql, values) => pgPool.query({ name: 'handle', text: sql, values }));
const quiet = new Logger(() => (level, message) => {
  if (level === 'error') console.error(message);
});

let runner;
serve(
  async () => {
    runner = await run({
      pgPool,
      preset: { worker: { ...options, logger: quiet } },
      noHandleSignals: true,
      taskList: { task: handle },
    });
  },
  async () => { await runner.stop(); },
);
