// A first-in-first-out queue of message references that stores each as its difference to the one
// before: six to ten bytes instead of 32, so that a backlog of two million tasks fits the memory
// budget of the dispatcher. It can only be read from the front, and nothing else is needed.

#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <vector>

#include "core/task.hpp"

namespace herald::core {

class MessageQueue {
public:
    bool Empty() const { return size_ == 0; }
    std::size_t Size() const { return size_; }

    // Any reference is stored exactly, whatever its order; close neighbours are stored small.
    void PushBack(const MessageRef &message);
    // Both need a queue that is not empty.
    const MessageRef &Front() const { return front_; }
    void PopFront();

    std::size_t MemoryBytes() const;

private:
    using Block = std::vector<std::uint8_t>;

    // The first element lies in front_, the bytes of the others in blocks_: a queue of one
    // allocates nothing, which matters where every busy key owns a queue.
    MessageRef front_{};
    MessageRef back_{};  // what the next difference is taken to
    std::size_t size_ = 0;
    std::size_t read_ = 0;  // bytes of the first block that are consumed
    std::list<Block> blocks_;
};

}  // namespace herald::core
