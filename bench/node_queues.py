"""The queues of bench/tasks that are in JavaScript, from npm; their programs are in bench/peers."""

import os
import shutil
import subprocess

import harness
import queues

MODULES = os.path.join(harness.BUILD, "bench_peers")


class Node(queues.Queue):
    """A queue in JavaScript: a program that is told by its standard input what to do. (A second process
    of it made none of them faster on two cores.)"""

    def __init__(self, connection, program, *arguments):
        super().__init__(connection)
        self.command = ["node", os.path.join(harness.TOP, "bench", "peers", program)]
        self.arguments = arguments

    def missing(self):
        if shutil.which("node") is None:
            return "there is no Node.js"
        if os.path.exists(os.path.join(MODULES, "installed")):
            return None
        with open(os.path.join(MODULES, "missing"), encoding="utf-8") as file:
            return file.read().strip()

    def prepare(self, handler):
        environment = dict(os.environ, NODE_PATH=os.path.join(MODULES, "node_modules"))
        self.child = harness.start(self.command + [handler, *self.arguments], env=environment,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.hear("ready")

    def tell(self, command):
        self.child.stdin.write(command + "\n")
        self.child.stdin.flush()

    def hear(self, expected=None):
        answer = self.child.stdout.readline().strip()
        if not answer or answer != (expected or answer):
            harness.fail(f"{self.name} says \"{answer}\"")
        return answer

    def start(self):
        self.tell("go")
        self.hear("running")

    def wait(self, count):
        harness.wait_until(f"the tasks of {self.name}", lambda: not self.one(self.ANY_LEFT), 120, 0.02)

    def stop(self):
        self.tell("stop")
        handled, first = (int(word) for word in self.hear().split())
        self.child.stdin.close()
        self.child.wait()
        return handled, first / 1000


class Graphile(Node):
    ANY_LEFT = "SELECT EXISTS (SELECT FROM graphile_worker._private_jobs)"

    def __init__(self, connection, mode):
        super().__init__(connection, "graphile_worker.js", mode)
        self.name = "graphile-worker" + (", local queue" if mode == "local_queue" else "")
        self.commit = "500 taken, those done meanwhile completed" if mode == "local_queue" else "1"

    def prepare(self, handler):
        environment = dict(os.environ, NODE_PATH=os.path.join(MODULES, "node_modules"))
        subprocess.run(["node", os.path.join(MODULES, "node_modules", "graphile-worker", "dist", "cli.js"),
                        "--schema-only", "--connection", "postgresql://"], env=environment, check=True,
                       stdout=subprocess.DEVNULL)
        super().prepare(handler)

    def load(self, count):
        for _ in range(count // 1000):
            self.connection.execute(self.add(1000))
        self.connection.execute("ANALYZE graphile_worker._private_jobs")

    @staticmethod
    def add(count):
        return ("SELECT count(*) FROM graphile_worker.add_jobs(ARRAY(SELECT ROW('task', payload::json, NULL, now(), "
                "25, NULL, 0, NULL)::graphile_worker.job_spec "
                f"FROM ({queues.payloads(count)}) AS message))")

    def publish_ten(self):
        return self.add(10) + ";"

    def left(self):
        return self.one("SELECT count(*) FROM graphile_worker._private_jobs")

    def clear(self):
        self.connection.execute("DROP SCHEMA graphile_worker CASCADE")


class PgBoss(Node):
    name = "pg-boss"
    commit = "100 taken, 100 completed"
    ANY_LEFT = "SELECT EXISTS (SELECT FROM pgboss.job WHERE name = 'tasks' AND state < 'completed')"

    def __init__(self, connection):
        super().__init__(connection, "pg_boss.js")

    def missing(self):
        reason = super().missing()
        if reason is None:
            version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
            if int(version[1:].split(".")[0]) < 20:
                reason = f"it needs Node.js 20, this is {version.strip()}"
        return reason

    def load(self, count):
        for _ in range(count // 1000):
            self.connection.execute(f"INSERT INTO pgboss.job (name, data) SELECT 'tasks', payload "
                                    f"FROM ({queues.payloads(1000)}) AS message")
        self.connection.execute("ANALYZE pgboss.job")

    def publish_ten(self):
        return (f"INSERT INTO pgboss.job (name, data) SELECT 'tasks', payload FROM ({queues.payloads(10)}) AS message;")

    def left(self):
        return self.one("SELECT count(*) FROM pgboss.job WHERE name = 'tasks' AND state <> 'completed'")

    def clear(self):
        self.connection.execute("DROP SCHEMA pgboss CASCADE")
