// Which databases get places of max_worker_processes for a dispatcher and an announcer; the launcher's decision.
//
// Both of a database are admitted together, as one without the other is of little use, and one place is kept
// for workers: without it no handler runs anywhere. Where the places do not suffice for all, those databases
// have them that have something to do, by turns; a database that listens for NOTIFYs keeps its places, since
// what it does not hear is lost.

#pragma once

#include "registry/database.hpp"

extern "C" {
#include "datatype/timestamp.h"
}

#include <map>
#include <vector>

namespace herald {

class Places {
public:
    // Forgets databases that are not in the list, and admits or revokes. Returns when to look again; DT_NOEND: when
    // something happens.
    TimestampTz Decide(const std::vector<DatabaseShared *> &served, TimestampTz now);

private:
    struct Tenant {
        TimestampTz waits_since = 0;  // 0: admitted, or in no need of it
        TimestampTz admitted_at = 0;
        bool dispatched = false;    // it had a dispatcher: its tasks are known
        TimestampTz looked_at = 0;  // when it was last admitted, or found to be in no need of it
    };

    bool LookAgain(const std::vector<DatabaseShared *> &served, TimestampTz now);
    DatabaseShared *ToRevoke(const std::vector<DatabaseShared *> &served, TimestampTz now);
    void Report(const PlaceGauges &gauges, int capacity);

    std::map<Oid, Tenant> tenants_;
    bool warned_ = false;
};

}  // namespace herald
