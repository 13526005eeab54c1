// See marker.hpp.

#include "pg/marker.hpp"

namespace herald::pg {

namespace {

Marker *markers = nullptr;  // all that were ever set

void ResetAll() {
    for (Marker *marker = markers; marker != nullptr; marker = marker->next) marker->set_in = InvalidSubTransactionId;
}

void ResetSince(SubTransactionId own) {
    for (Marker *marker = markers; marker != nullptr; marker = marker->next)
        if (marker->set_in >= own) marker->set_in = InvalidSubTransactionId;
}

}  // namespace

// Nothing to do when a savepoint is released: the statement that set the marker has taken it away.
const TransactionPart kMarkersPart = {.before_commit = NoEnd,
                                      .before_prepare = NoEnd,
                                      .committed = ResetAll,
                                      .prepared = ResetAll,
                                      .aborted = ResetAll,
                                      .sub_committed = NoSubEnd,
                                      .sub_aborted = ResetSince};

SubTransactionId SetMarker(Marker *marker) {
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
