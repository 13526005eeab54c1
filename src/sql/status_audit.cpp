// The rows of herald.status() about audit trails.

#include "pg/pg.hpp"

#include "audit/audited_tables.hpp"
#include "sql/status_rows.hpp"

namespace herald {

// Only of tables the caller may see.
void ReportAudit(FunctionCallInfo fcinfo) {
    Listed broken;
    int count, audited = 0;
    const StoredTarget *targets = ReadStoredTargets(&count);
    InitListed(&broken);
    for (int i = 0; i < count; i++) {
        if (!targets[i].enabled || !MaySeeTarget(targets[i])) continue;
        audited++;
        int partitions;
        const char *problem = FindAuditProblem(targets[i], &partitions);
        if (problem != nullptr)
            AddListed(&broken, psprintf("%s.%s", targets[i].schema_name, targets[i].table_name), problem);
    }
    Report(fcinfo, "audit", broken.count == 0,
           broken.count == 0 ? psprintf("%d tables", audited) : broken.text.data,
           "Changes may be missing in herald.audit_log. Call herald.enable_audit() for the table again.");
}

}  // namespace herald
