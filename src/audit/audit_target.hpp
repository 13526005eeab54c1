// What is audited, and how: the rows of herald_internal.audit_target as the trigger functions need them, for each
// relation whose trigger fires. Partitions and children take the options of the table that
// herald.enable_audit named, by the names of its columns.

#pragma once

#include "pg/pg.hpp"

namespace herald {

// full: old and new row whole; diff: columns that changed; keys: only which row and which columns.
enum class AuditRecord : uint8 { kFull, kDiff, kKeys };

// Excluded columns are nowhere in the trail; masked ones as a marker, hashed ones as a salted hash.
enum class ColumnTreatment : uint8 { kRecorded, kExcluded, kMasked, kHashed };

// The column "operation" of the segments. Those from kEnable on are events of the trail itself.
enum class AuditOperation : char {
    kInsert = 'I',
    kUpdate = 'U',
    kDelete = 'D',
    kTruncate = 'T',
    kEnable = 'E',
    kAlter = 'A',
    kDisable = 'X',
    kDropTable = 'R',
    kDropTrigger = 'G',
    kDisableTrigger = 'S',
    kEnableTrigger = 'N',
    kAttach = 'H',
    kDetach = 'L',
    kPurge = 'P',
};

struct AuditOperations {
    bool insert;
    bool update;
    bool del;
    bool truncate;
};

struct AuditTarget {
    int32 id;
    Oid root;      // the table that is audited
    Oid relation;  // that whose trigger fires: the same, or below it
    AuditRecord record;
    AuditOperations operations;
    int column_count;  // of relation, dropped ones included
    const ColumnTreatment *columns;
    bool all_recorded;  // every element of columns is kRecorded
    const uint8 *salt;  // of the hashes
    int salt_length;
    int key_count;          // 0: rows have no identity, and are recorded whole
    const AttrNumber *key;  // of relation, in the order of the root's key
};

// The target that a relation belongs to, or NULL. It lives until the end of the transaction. Reads the
// catalogs without asking for privileges; the caller has a lock on the relation.
const AuditTarget *FindTarget(Oid relation);

// The same, for a trigger that has fired. NULL, with a WARNING, where the table is not enrolled; an ERROR 39P01 where it may
// be one that is, but can't be found.
const AuditTarget *TargetToRecord(Oid relation);

// Makes all sessions read the targets again, at commit; this one at the next look.
void InvalidateAuditTargets();

// Called once per process, from _PG_init.
void InitAuditTargets();

}  // namespace herald
