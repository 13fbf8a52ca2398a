// What the trainer knows of pairs of tokens: bounds of their counts, and a table of those that it tracks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace groundup::merging {

// (left id << 32) | right id: pairs in their own order are ordered by ids.
using Pair = uint64_t;

constexpr Pair pair_of(uint32_t left, uint32_t right) { return Pair{left} << 32 | right; }
constexpr uint32_t left_of(Pair pair) { return static_cast<uint32_t>(pair >> 32); }
constexpr uint32_t right_of(Pair pair) { return static_cast<uint32_t>(pair); }

// The upper bits of a product with the golden ratio (Knuth's multiplicative hash).
constexpr size_t hash(Pair pair, int bits) { return static_cast<size_t>(pair * 0x9E3779B97F4A7C15u >> (64 - bits)); }

// Upper bounds of the counts of all pairs in little memory: pairs with the same hash share one sum (one row of a
// count-min sketch, Cormode and Muthukrishnan 2005). Most rare pairs are told from frequent ones by it alone.
class CountBounds {
public:
    // So many sums that each stays well below `threshold`, were the total weight spread evenly over them.
    CountBounds(uint64_t total_weight, uint64_t threshold) {
        while (bits_ < kMaxBits && total_weight / threshold >> (bits_ + 3)) ++bits_;
        sums_.resize(size_t{1} << bits_);
    }

    void add(Pair pair, uint64_t weight) { sums_[hash(pair, bits_)] += weight; }
    uint64_t operator[](Pair pair) const { return sums_[hash(pair, bits_)]; }

private:
    static constexpr int kMaxBits = 22;

    int bits_ = 14;
    std::vector<uint64_t> sums_;
};

// A tracked pair.
struct Entry {
    Pair pair;
    uint64_t count;
    uint32_t* places;  // the boundaries where the pair was found or made, ascending; it may have gone from some
    uint32_t num_places;
    uint32_t next;  // index of the next entry with the same hash
};

// The tracked pairs: a hash table whose entries lie densely and are chained, which keeps it small.
class PairTable {
public:
    std::vector<Entry>& entries() { return entries_; }

    // The pair's entry, or null; valid until a pair is added.
    Entry* find(Pair pair) {
        uint32_t index = heads_[hash(pair, bits_)];
        while (index != kNone && entries_[index].pair != pair) index = entries_[index].next;
        return index == kNone ? nullptr : &entries_[index];
    }

    Entry& add(Pair pair) {
        if (2 * entries_.size() >= heads_.size()) grow();
        entries_.push_back({pair, 0, nullptr, 0, kNone});
        link(static_cast<uint32_t>(entries_.size() - 1));
        return entries_.back();
    }

    void prefetch(Pair pair) const { __builtin_prefetch(&heads_[hash(pair, bits_)]); }

private:
    static constexpr uint32_t kNone = UINT32_MAX;

    void link(uint32_t index) {
        Entry& entry = entries_[index];
        entry.next = std::exchange(heads_[hash(entry.pair, bits_)], index);
    }

    void grow() {
        bits_ += 2;
        heads_.assign(size_t{1} << bits_, kNone);
        for (uint32_t index = 0; index < entries_.size(); ++index) link(index);
    }

    int bits_ = 16;
    std::vector<uint32_t> heads_ = std::vector<uint32_t>(size_t{1} << bits_, kNone);
    std::vector<Entry> entries_;
};

// Memory for lists of places, freed all at once.
class PlaceArena {
public:
    uint32_t* allocate(size_t size) {
        if (size > left_) {
            left_ = std::max(size, kBlockSize);
            blocks_.emplace_back(new uint32_t[left_]);
            next_ = blocks_.back().get();
        }
        left_ -= size;
        return std::exchange(next_, next_ + size);
    }

private:
    static constexpr size_t kBlockSize = size_t{1} << 18;

    std::vector<std::unique_ptr<uint32_t[]>> blocks_;
    uint32_t* next_ = nullptr;
    size_t left_ = 0;
};

}  // namespace groundup::merging
