// pg-boss: node pg_boss.js HANDLER. Four loops that fetch tasks, handle them and complete them, 100 at a
// time. (Its own workers look for tasks every half a second at most, which would be all one measured.)

const PgBoss = require('pg-boss');
const { Pool } = require('pg');
const { makeHandler, serve } = require('./protocol.js');

const pool = new Pool({ max: 8 });
const boss = new PgBoss({
  db: { executeSql: (text, values) => pool.query(text, values) },
  supervise: false,
  schedule: false,
});
boss.on('error', console.error);
const handle = makeHandler(process.argv[2], (sql, values) => pool.query({ name: 'handle', text: sql, values }));

let stopped = false;
let loops = [];
const drain = async () => {
  while (!stopped) {
    const jobs = await boss.fetch('tasks', { batchSize: 100, priority: false });
    if (jobs.length === 0) {
      await new Promise((resolve) => { setTimeout(resolve, 10); });
      continue;
    }
    for (const job of jobs) await handle(job.data);
    await boss.complete('tasks', jobs.map((job) => job.id));
  }
};

const main = async () => {
  await boss.start();
  await boss.createQueue('tasks');
  await serve(
    async () => { loops = [1, 2, 3, 4].map(drain); },
    async () => { stopped = true; await Promise.all(loops); },
  );
};
main().catch((error) => { console.error(error); process.exit(1); });
