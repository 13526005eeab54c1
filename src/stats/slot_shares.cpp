// See slot_shares.hpp.

#include "stats/slot_shares.hpp"

#include "pg/shared_hash.hpp"
#include "settings.hpp"

namespace herald {

namespace {

HTAB *shares = nullptr;

SlotShare *Search(Oid role, HASHACTION action, bool *found) {
    return static_cast<SlotShare *>(hash_search(shares, &role, action, found));
}

}  // namespace

SlotShare *FindShare(Oid role) { return Search(role, HASH_FIND, nullptr); }

void ChangeShare(Oid role, bool declared, int by) {
    bool found;
    SlotShare *share = Search(role, by > 0 ? HASH_ENTER_NULL : HASH_FIND, &found);
    // Without room for it the slots of the role belong to nobody, and nobody takes them away.
    if (share == nullptr) return;
    if (!found) {
        share->all = 0;
        share->undeclared = 0;
        share->searched_at = 0;
    }
    share->all += by;
    if (!declared) share->undeclared += by;
    if (share->all <= 0) (void)Search(role, HASH_REMOVE, nullptr);
}

SlotShare *LargestShare(bool undeclared) {
    SlotShare *largest = nullptr;
    HASH_SEQ_STATUS scan;
    hash_seq_init(&scan, shares);
    while (auto *share = static_cast<SlotShare *>(hash_seq_search(&scan))) {
        const int count = undeclared ? share->undeclared : share->all;
        if (count > 0 && (largest == nullptr || count > (undeclared ? largest->undeclared : largest->all)))
            largest = share;
    }
    return largest;
}

Size SlotShareMemory() { return hash_estimate_size(settings::max_channels, sizeof(SlotShare)); }

void InitSlotShares() {
    HASHCTL control{};
    control.keysize = sizeof(Oid);
    control.entrysize = sizeof(SlotShare);
    shares = pg::InitSharedHash("pg_herald channel shares", settings::max_channels, &control, HASH_ELEM | HASH_BLOBS);
}

}  // namespace herald
