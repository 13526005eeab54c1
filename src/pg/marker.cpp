// See marker.hpp.

#include "pg/marker.hpp"

namespace herald::pg {

namespace {

Marker *markers = nullptr;  // all that were ever set

void OnTransactionEnd(XactEvent, void *) {
    for (Marker *marker = markers; marker != nullptr; marker = marker->next)
        marker->set_in = InvalidSubTransactionId;
}

void OnSubtransactionEnd(SubXactEvent event, SubTransactionId subtransaction, SubTransactionId,
                         void *) {
    if (event != SUBXACT_EVENT_ABORT_SUB) return;
    for (Marker *marker = markers; marker != nullptr; marker = marker->next)
        if (marker->set_in >= subtransaction) marker->set_in = InvalidSubTransactionId;
}

}  // namespace

SubTransactionId SetMarker(Marker *marker) {
    if (markers == nullptr) {
        RegisterXactCallback(OnTransactionEnd, nullptr);
        RegisterSubXactCallback(OnSubtransactionEnd, nullptr);
    }
    if (!marker->listed) {
        marker->next = markers;
        markers = marker;
        marker->listed = true;
    }
    const SubTransactionId outer = marker->set_in;
    marker->set_in = GetCurrentSubTransactionId();
    return outer;
}

void ResetMarker(Marker *marker, SubTransactionId outer) { marker->set_in = outer; }

}  // namespace herald::pg
