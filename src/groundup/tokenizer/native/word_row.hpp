// The distinct words that merges are learned from, in one row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>

#include "large.hpp"
#include "pair_table.hpp"

namespace groundup::merging {

// Distinct words: word n is text[offsets[n] .. offsets[n + 1]) and occurs counts[n] times.
struct Words {
    const uint8_t* text;
    const uint64_t *offsets, *counts;
    size_t size;

    size_t length(size_t word) const { return offsets[word + 1] - offsets[word]; }
    size_t num_bytes() const { return offsets[size] - offsets[0]; }
};

// How often a position counts, as a floating-point number of 16 bits. Nearly all counts are small enough for one;
// the others are exact sums of a few, and their words stand in the row once for each.
class Weight {
public:
    Weight() = default;

    // The greatest weight that is at most `count`.
    static Weight within(uint64_t count) {
        unsigned exponent = 0;
        while (count >> exponent >> kMantissaBits) ++exponent;
        return Weight(static_cast<uint16_t>(exponent << kMantissaBits | count >> exponent));
    }

    uint64_t value() const { return uint64_t{code_ & ((1u << kMantissaBits) - 1)} << (code_ >> kMantissaBits); }

private:
    static constexpr int kMantissaBits = 10;  // Six are left for the exponent: enough for every count.

    explicit Weight(uint16_t code) : code_(code) {}

    uint16_t code_;
};

// The symbols of all words of two or more bytes, a border before and behind every word.
struct Row {
    LargeArray<uint32_t> symbols;
    LargeArray<Weight> weights;
    size_t size = 0;
    uint64_t total_weight = 0;

    Row(const Words& words, const uint8_t* id_of_byte, uint32_t border) {
        size_t capacity = 1;
        for_each_copy(words, [&](size_t word, Weight) { capacity += words.length(word) + 1; });
        if (capacity > UINT32_MAX) throw std::length_error("the distinct words have more than 4 GB");
        symbols = make_large_array<uint32_t>(capacity);
        weights = make_large_array<Weight>(capacity);
        weights[size] = Weight::within(0);
        symbols[size++] = border;
        for_each_copy(words, [&](size_t word, Weight weight) {
            for (uint64_t i = words.offsets[word]; i < words.offsets[word + 1]; ++i) {
                weights[size] = weight;
                symbols[size++] = id_of_byte[words.text[i]];
            }
            weights[size] = Weight::within(0);
            symbols[size++] = border;
            total_weight += weight.value() * words.length(word);
        });
    }

    Pair pair_at(uint32_t boundary) const { return pair_of(symbols[boundary - 1], symbols[boundary]); }

private:
    template <class Visit>
    static void for_each_copy(const Words& words, Visit visit) {
        for (size_t word = 0; word < words.size; ++word) {
            if (words.length(word) < 2) continue;
            for (uint64_t rest = words.counts[word]; rest > 0;) {
                const Weight weight = Weight::within(rest);
                visit(word, weight);
                rest -= weight.value();
            }
        }
    }
};

}  // namespace groundup::merging
