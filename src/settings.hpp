// The settings herald.*, each with what an administrator chooses with it. See settings.cpp.

#pragma once

namespace herald::settings {

enum class UndeclaredChannels : int { kAllow = 0, kWarn = 1, kRefuse = 2 };

extern bool enabled;             // run dispatchers and workers
extern char *databases;          // comma-separated list; empty: every database
extern int max_workers;          // workers of the whole server
extern int worker_idle_timeout;  // seconds
extern int batch_time;           // milliseconds
extern bool superuser_handlers;
extern int outbox_size;  // kB
extern int max_channels;
extern int max_subscriptions;
extern int max_payload;             // bytes
extern int failure_retention;       // minutes; 0: for ever
extern int segment_size;            // MB; 0: no limit
extern int rotation_period;         // seconds
extern int max_log_size;            // MB; 0: no limit
extern int pointer_retention;       // seconds
extern int pointer_space;           // kB for each role in a database
extern int change_feed_bulk_limit;  // rows of a feed in a transaction
extern int sweep_interval;          // seconds
extern int undeclared_channels;     // an UndeclaredChannels
extern char *audit_context;         // comma-separated list of settings
extern int audit_retention;         // minutes; 0: for ever
extern bool audit_statement;

void Define();

}  // namespace herald::settings
