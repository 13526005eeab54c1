"""The queues that bench/tasks drains: pg_herald, and what one would use without it.

Those in JavaScript are in bench/node_queues.py. All of them hand the same payloads to the same SQL functions, bench.nothing and bench.write, but those
in JavaScript, whose tasks that do nothing stay in JavaScript. Four workers each.
"""

import threading
import time

import harness

WORKERS = 4
HANDLERS = ("nothing", "write")
# How a payload is made; n is another one for each message.
PREPARE = """
    CREATE SCHEMA bench;
    CREATE ROLE bench_handler LOGIN;
    GRANT USAGE ON SCHEMA bench TO bench_handler;
    CREATE TABLE bench.effect (n bigint NOT NULL, payload jsonb NOT NULL);
    GRANT INSERT ON bench.effect TO bench_handler;
    CREATE TABLE bench.published_all (yes boolean);
    CREATE SEQUENCE bench.number CACHE 1000;
    CREATE FUNCTION bench.payload(n bigint) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN jsonb_build_object('n', n, 'customer', 'Anna Example', 'state', 'paid', 'items', jsonb_build_array(
        jsonb_build_object('article', 'tea, green', 'count', 2),
        jsonb_build_object('article', 'cup, blue', 'count', 6)), 'total', 49.50, 'currency', 'EUR');
    CREATE FUNCTION bench.nothing(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
    END $$;
    CREATE FUNCTION bench.write(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO bench.effect VALUES ((payload ->> 'n')::bigint, payload);
    END $$;
    """


class Queue:
    """One way to have tasks handled. `commit` says how many of them share a commit."""

    name = commit = ""

    def __init__(self, connection):
        self.connection = connection

    def missing(self):
        """Why it can't run here, or None."""
        return None

    def prepare(self, handler):
        """Makes an empty queue with consumers that have not begun."""
        raise NotImplementedError

    def load(self, count):
        """Publishes a backlog."""
        raise NotImplementedError

    def publish_ten(self):
        """SQL that publishes ten messages, each with a payload of its own."""
        raise NotImplementedError

    def start(self):
        """The consumers begin."""
        raise NotImplementedError

    def wait(self, count):
        """Until all of them are handled, which the publishers have published."""
        raise NotImplementedError

    def stop(self):
        """Ends the consumers: (tasks handled, when the first one began, where that is known)."""
        raise NotImplementedError

    def left(self):
        """How many tasks are not done."""
        raise NotImplementedError

    def clear(self):
        raise NotImplementedError

    def one(self, query, *arguments):
        return self.connection.execute(query, arguments).fetchone()[0]


def payloads(count):
    return f"SELECT bench.payload(nextval('bench.number')) AS payload FROM generate_series(1, {count})"


class Herald(Queue):
    def __init__(self, connection, batch, synchronous=True):
        super().__init__(connection)
        self.batch = batch
        self.synchronous = synchronous
        self.name = "pg_herald" if batch else "pg_herald, batch => false"
        if not synchronous:
            self.name += ", role with synchronous_commit = off"

    def prepare(self, handler):
        """A channel and a subscription of its own for each run, in a log that has those of other runs."""
        self.connection.execute("ALTER ROLE bench_handler SET synchronous_commit = "
                                + ("on" if self.synchronous else "off"))
        # Idle workers have the role's settings of before.
        for (pid,) in self.connection.execute("SELECT pid FROM herald.workers WHERE kind = 'worker'").fetchall():
            self.connection.execute("SELECT pg_terminate_backend(%s)", [pid])
        self.connection.execute("SELECT herald.create_channel('tasks', announce => 'off')")
        self.connection.execute(
            "SELECT herald.subscribe('tasks', 'tasks', %s, run_as => 'bench_handler', batch => %s)",
            [f"bench.{handler}(jsonb)", self.batch])
        self.connection.execute("SELECT herald.pause('tasks')")
        self.settled_before = self.settled()
        self.done_before = self.stats()[2]

    def load(self, count):
        for _ in range(count // 1000):
            self.connection.execute(f"SELECT count(*) FROM herald.publish_batch('tasks', ARRAY({payloads(1000)}))")

    def publish_ten(self):
        return f"SELECT count(*) FROM herald.publish_batch('tasks', ARRAY({payloads(10)}));"

    def start(self):
        self.connection.execute("SELECT herald.resume('tasks')")

    def wait(self, count):
        harness.wait_until(f"the tasks of {self.name}",
                           lambda: self.stats() == (0, 0, self.done_before + count), 120, 0.005)

    def stats(self):
        return self.connection.execute("SELECT pending, running, done FROM herald.subscription_stats",
                                       prepare=True).fetchone()

    def settled(self):
        """(tasks that their records say are done, records, which are commits)"""
        return self.connection.execute(
            "SELECT coalesce(sum(cardinality(message_ids)), 0), count(*) FROM (" + " UNION ALL ".join(
                f"SELECT * FROM herald_internal.settled_{i}" for i in range(3)) + """) AS settled
              WHERE subscription_id = (SELECT id FROM herald_internal.subscription_store)""").fetchone()

    def stop(self):
        handled, commits = (after - before for after, before in zip(self.settled(), self.settled_before))
        self.commit = f"{handled / max(1, commits):.1f}"
        return int(handled), None

    def left(self):
        return sum(self.stats()[:2])

    def clear(self):
        self.connection.execute("SELECT herald.unsubscribe('tasks', force => true)")
        self.connection.execute("SELECT herald.drop_channel('tasks')")


class Loops(Queue):
    """Consumers that are procedures, each called in a session of its own: no round trip to a client."""

    def calls(self):
        """The CALL of each consumer, which returns how many tasks it has handled."""
        raise NotImplementedError

    def prepare(self, handler):
        self.handler = handler
        self.handled = []
        self.connection.execute("TRUNCATE bench.published_all")

    def start(self):
        self.threads = [threading.Thread(target=self.run, args=[call]) for call in self.calls()]
        for thread in self.threads:
            thread.start()

    def run(self, call):
        with harness.connect("bench_consumer") as session:
            self.handled.append(session.execute(call).fetchone()[0])

    def wait(self, count):
        self.connection.execute("INSERT INTO bench.published_all VALUES (true)")
        for thread in self.threads:
            thread.join()

    def stop(self):
        if len(self.handled) != len(self.threads):
            harness.fail(f"a consumer of {self.name} failed")
        return sum(self.handled), None


class SkipLocked(Loops):
    """A table and FOR UPDATE SKIP LOCKED, as one writes it by hand."""

    def __init__(self, connection, rows, savepoints=False):
        super().__init__(connection)
        self.rows = rows
        self.savepoints = savepoints
        self.commit = str(rows)
        self.name = f"SKIP LOCKED, {rows} a commit" + (", each in a savepoint" if savepoints else "")

    def prepare(self, handler):
        super().prepare(handler)
        self.connection.execute("CREATE TABLE bench.queue (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
                                "payload jsonb NOT NULL)")
        take = f"""DELETE FROM bench.queue
                    WHERE id = ANY (ARRAY(SELECT id FROM bench.queue ORDER BY id
                                           LIMIT {self.rows} FOR UPDATE SKIP LOCKED))
                RETURNING payload"""
        step = f"WITH gone AS ({take}) SELECT count(bench.{handler}(payload)) INTO taken FROM gone;"
        if self.savepoints:
            step = f"""taken := 0;
                FOR task IN {take} LOOP
                    BEGIN
                        PERFORM bench.{handler}(task.payload);
                        taken := taken + 1;
                    EXCEPTION WHEN OTHERS THEN
                        RAISE WARNING 'to be written to a table of failures';
                    END;
                END LOOP;"""
        self.connection.execute(f"""
            CREATE PROCEDURE bench.drain(INOUT handled bigint) LANGUAGE plpgsql AS $$
            DECLARE
                taken bigint;
                task record;
                is_over boolean;
            BEGIN
                LOOP
                    SELECT count(*) > 0 INTO is_over FROM bench.published_all;
                    {step}
                    COMMIT;
                    handled := handled + taken;
                    EXIT WHEN taken = 0 AND is_over;
                    IF taken = 0 THEN
                        PERFORM pg_sleep(0.005);
                    END IF;
                END LOOP;
            END $$""")

    def load(self, count):
        for _ in range(count // 1000):
            self.connection.execute(f"INSERT INTO bench.queue (payload) {payloads(1000)}")
        self.connection.execute("VACUUM ANALYZE bench.queue")

    def publish_ten(self):
        return f"INSERT INTO bench.queue (payload) {payloads(10)};"

    def calls(self):
        return ["CALL bench.drain(0)"] * WORKERS

    def left(self):
        return self.one("SELECT count(*) FROM bench.queue")

    def clear(self):
        self.connection.execute("DROP PROCEDURE bench.drain; DROP TABLE bench.queue")


class PgQ(Loops):
    """A queue for each consumer, since the consumers of one PgQ queue get all of it each."""

    name = "PgQ, a queue for each worker"
    commit = "a PgQ batch: about 1000"
    QUEUES = [f"q{i}" for i in range(WORKERS)]

    def missing(self):
        found = self.one("SELECT count(*) FROM pg_available_extensions WHERE name = 'pgq'")
        return None if found else "the server has no PgQ (postgresql-15-pgq3 of Debian)"

    def prepare(self, handler):
        super().prepare(handler)
        self.connection.execute("CREATE EXTENSION pgq")
        for queue in self.QUEUES:
            self.connection.execute("SELECT pgq.create_queue(%s)", [queue])
            for setting, value in (("ticker_max_count", "1000"), ("ticker_max_lag", "100 ms"),
                                   ("ticker_idle_period", "100 ms")):
                self.connection.execute("SELECT pgq.set_queue_config(%s, %s, %s)", [queue, setting, value])
            self.connection.execute("SELECT pgq.register_consumer(%s, 'worker')", [queue])
        # The planner has to see the queue's table as it is, so the statement is PgQ's own function.
        self.connection.execute(f"""
            CREATE PROCEDURE bench.drain(queue text, INOUT handled bigint) LANGUAGE plpgsql AS $$
            DECLARE
                batch bigint;
                taken bigint;
                is_over boolean;
            BEGIN
                LOOP
                    SELECT count(*) > 0 INTO is_over FROM bench.published_all;
                    batch := pgq.next_batch(queue, 'worker');
                    IF batch IS NOT NULL THEN
                        SELECT count(bench.{handler}(ev_data::jsonb)) INTO taken
                          FROM pgq.get_batch_events(batch);
                        PERFORM pgq.finish_batch(batch);
                        handled := handled + taken;
                    END IF;
                    COMMIT;
                    EXIT WHEN batch IS NULL AND is_over;
                    IF batch IS NULL THEN
                        PERFORM pg_sleep(0.005);
                    END IF;
                END LOOP;
            END $$""")

    def load(self, count):
        for i in range(count // 1000):
            queue = self.QUEUES[i % WORKERS]
            self.connection.execute(f"SELECT count(pgq.insert_event('{queue}', 'task', payload::text)) "
                                    f"FROM ({payloads(1000)}) AS message")
            self.connection.execute("SELECT pgq.ticker(%s)", [queue])
        self.tick()

    def tick(self):
        for queue in self.QUEUES:
            self.connection.execute("SELECT pgq.force_tick(%s)", [queue])
            self.connection.execute("SELECT pgq.ticker(%s)", [queue])

    def publish_ten(self):
        return (f"SELECT pgq.insert_event('q' || ((payload ->> 'n')::bigint % {WORKERS}), 'task', payload::text) "
                f"FROM ({payloads(10)}) AS message;")

    def calls(self):
        return [f"CALL bench.drain('{queue}', 0)" for queue in self.QUEUES]

    def start(self):
        self.is_ticking = True
        self.ticker = threading.Thread(target=self.run_ticker)
        self.ticker.start()
        super().start()

    def run_ticker(self):
        """What its daemon does, more often than that."""
        with harness.connect("bench_ticker") as session:
            while self.is_ticking:
                session.execute("SELECT pgq.ticker()")
                time.sleep(0.02)

    def wait(self, count):
        self.tick()
        super().wait(count)

    def stop(self):
        self.is_ticking = False
        self.ticker.join()
        return super().stop()

    def left(self):
        return 0  # what was handled is counted

    def clear(self):
        self.connection.execute("DROP PROCEDURE bench.drain; DROP EXTENSION pgq CASCADE")
        self.connection.execute("DROP SCHEMA IF EXISTS pgq CASCADE")
