// A tokenizer's tables: tokens, ids, and which pairs merge.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <unordered_map>
#include <vector>

#include "large.hpp"

namespace groundup {

inline uint64_t mix(uint64_t a, uint64_t b) {
    const unsigned __int128 product = static_cast<unsigned __int128>(a ^ 0x9E3779B97F4A7C15) * (b ^ 0xD6E8FEB86659FD93);
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

inline uint64_t load64(const uint8_t* p) {
    uint64_t value;
    std::memcpy(&value, p, 8);
    return value;
}

inline uint64_t hash_bytes(const uint8_t* p, size_t size) {
    uint64_t hash = size;
    for (; size > 8; p += 8, size -= 8) hash = mix(hash, load64(p));
    uint64_t rest = 0;
    std::memcpy(&rest, p, size);
    return mix(hash, rest);
}

// Tokens have an index: 0..255 are the bytes, the others follow as given. Ids are what the user sees.
class Vocabulary {
public:
    static constexpr uint32_t kNoRank = (1u << 24) - 1;
    static constexpr size_t kMaxTokens = 1u << 20;

    struct Merge {
        uint32_t left, right, merged;  // indices
    };

    Vocabulary(const uint8_t* text, const uint64_t* offsets, const uint32_t* ids, size_t num_tokens,
               size_t num_merges)
        : text_(text, text + offsets[num_tokens]),
          offsets_(offsets, offsets + num_tokens + 1),
          ids_(ids, ids + num_tokens),
          byte_ranks_(1 << 16, kNoRank),
          border_ranks_(1 << 16, kNoRank),
          characters_(kCharacters) {
        size_t size = 64;
        while (size * PairBucket::kRows * 5 < 8 * num_merges) size *= 2;
        PairBucket empty;
        std::fill_n(empty.rows, PairBucket::kRows, PairBucket::kEmpty);
        pairs_.assign(size, empty);
        pair_shift_ = 64 - __builtin_ctzll(size);
        merged_.reserve(num_merges);
        last_run_ = num_tokens ? static_cast<uint32_t>(num_tokens) - 1 : 0;
        while (last_run_ && ids[last_run_ - 1] + 1 == ids[last_run_]) --last_run_;
    }

    // Add the merge of the next rank; there is room for `num_merges`.
    void add(const Merge& merge) {
        const uint32_t rank = static_cast<uint32_t>(merged_.size());
        merged_.push_back(merge.merged);
        in_order_ = in_order_ && merge.merged == 256 + rank;
        add_pair(merge.left, merge.right, rank);
        const uint8_t before = text_[offsets_[merge.left + 1] - 1], after = *text(merge.right);
        uint32_t& lowest = border_ranks_[before << 8 | after];
        lowest = std::min(lowest, rank);
    }

    size_t size() const { return ids_.size(); }
    // Most vocabularies number their tokens one after the other but for the bytes: then only ids of bytes are read.
    uint32_t id(uint32_t index) const {
        const uint32_t place = std::min(index, last_run_);
        return ids_[place] + (index - place);
    }
    size_t length(uint32_t index) const { return offsets_[index + 1] - offsets_[index]; }
    const uint8_t* text(uint32_t index) const { return text_.data() + offsets_[index]; }
    uint32_t merged(uint32_t rank) const { return in_order_ ? 256 + rank : merged_[rank]; }

    // The lowest rank of the pairs whose left ends with one byte and whose right begins with the other: whatever the
    // tokens beside a border between two bytes have become, no merge across it has a lower rank.
    uint32_t border_rank(uint8_t before, uint8_t after) const { return border_ranks_[before << 8 | after]; }

    // What a character of two or three bytes becomes by itself: one or two tokens, or 0 if that is not known.
    struct Character {
        uint32_t tokens[2];
        uint32_t count, rank;  // `rank`: the highest of its merges
    };
    // `code`: the bits of the lead and of the tails, as in a code point.
    const Character& character(uint32_t code) const { return characters_[code]; }
    void set_character(uint32_t code, const Character& character) { characters_[code] = character; }
    static constexpr uint32_t kCharacters = 1 << 16;

    // The rank of a pair of bytes; kNoRank if it does not merge.
    uint32_t byte_rank(uint32_t left, uint32_t right) const { return byte_ranks_[left << 8 | right]; }
    const uint32_t* byte_ranks() const { return byte_ranks_.data(); }

    // Other pairs of indices stand in the bucket of their key, or if that is full, in the next that is not.
    // A row is left (20 bits), right (20 bits), rank (24 bits).
    struct alignas(64) PairBucket {
        static constexpr int kRows = 8;
        static constexpr uint64_t kEmpty = ~uint64_t{0};
        uint64_t rows[kRows];
        bool is_full() const { return rows[kRows - 1] != kEmpty; }
    };
    static uint64_t pair_key(uint64_t left, uint64_t right) { return left << 44 | right << 24; }
    size_t bucket_of(uint64_t key) const { return (key ^ key >> 29) * 0x9E3779B97F4A7C15 >> pair_shift_; }
    size_t bucket_after(size_t place) const { return (place + 1) & (pairs_.size() - 1); }
    const PairBucket& pairs(size_t place) const { return pairs_[place]; }

    // A token that a piece becomes only if it is the whole piece: no merges lead to it.
    void add_whole_piece(uint32_t index) {
        whole_pieces_.emplace(std::string(reinterpret_cast<const char*>(text(index)), length(index)), index);
    }

    // The index of the token that is such a piece, -1 if there is none.
    int64_t whole_piece(const uint8_t* piece, size_t size) const {
        if (whole_pieces_.empty()) return -1;
        const auto found = whole_pieces_.find(std::string(reinterpret_cast<const char*>(piece), size));
        return found == whole_pieces_.end() ? -1 : static_cast<int64_t>(found->second);
    }

private:
    // A pair that is named twice has its last rank, as in Hugging Face's library.
    void add_pair(uint32_t left, uint32_t right, uint32_t rank) {
        if ((left | right) < 256) {
            byte_ranks_[left << 8 | right] = rank;
            return;
        }
        const uint64_t key = pair_key(left, right);
        for (size_t place = bucket_of(key);; place = bucket_after(place)) {
            for (uint64_t& row : pairs_[place].rows) {
                if (row != PairBucket::kEmpty && (row ^ key) >> 24 != 0) continue;
                row = key | rank;
                return;
            }
        }
    }

    std::vector<uint8_t> text_;
    std::vector<uint64_t> offsets_;
    std::vector<uint32_t> ids_, merged_, byte_ranks_, border_ranks_;
    uint32_t last_run_;  // from this index on every id is one more than the one before
    std::vector<Character> characters_;
    LargeVector<PairBucket> pairs_;
    int pair_shift_ = 0;
    bool in_order_ = true;  // whether every merge makes the next token
    std::unordered_map<std::string, uint32_t> whole_pieces_;
};

}  // namespace groundup
