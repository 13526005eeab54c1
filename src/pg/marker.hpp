// "This is our own doing": a mark of the process that others look at while a statement of ours runs. It goes
// when it is taken away, or when the (sub)transaction that set it is rolled back.
//
//     pg::Marker truncating;                                // static
//     const SubTransactionId outer = pg::SetMarker(&truncating);
//     ... what may raise an ERROR ...
//     pg::ResetMarker(&truncating, outer);

#pragma once

#include "pg/transaction_part.hpp"

namespace herald::pg {

struct Marker {
    SubTransactionId set_in = InvalidSubTransactionId;
    bool listed = false;
    Marker *next = nullptr;
};

// Returns what it was, for ResetMarker.
SubTransactionId SetMarker(Marker *marker);
void ResetMarker(Marker *marker, SubTransactionId outer);

extern const TransactionPart kMarkersPart;

inline bool IsSet(const Marker &marker) { return marker.set_in != InvalidSubTransactionId; }

}  // namespace herald::pg
