// Learning the merges of byte-pair encoding (Sennrich et al. 2016) from distinct words and their counts.
//
// The symbols of all words stand in one row, and a merge visits only the places of its pair. What makes it fast:
//
// - The row needs no links. A token writes its id at its first and at its last position, and the id says how many
//   positions it takes, so both neighbours are one step away. A place of a pair is the boundary between its two
//   tokens: the pair still stands there if the symbols on both sides of the boundary are its own.
// - Rare pairs are not tracked. Only the merge that makes the younger token of a pair can make the pair, so its count
//   never rises afterwards. A pair born with less than some threshold cannot be the best before the best count has
//   fallen below that threshold; only then is the row counted anew, for a lower one. By Zipf's law nearly all pairs
//   are rare: the few that are tracked stay in the caches, and two or three counts do.
// - Every new count finds the row squeezed: each token at one position, and no word that has become one token.
// - What a merge takes from and gives to other pairs is summed by neighbour first, so that the table of pairs is
//   asked once for each neighbour and not for each place.
//
// The merges do not depend on the thresholds, which decide what is tracked and never what is best.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <queue>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "pair_table.hpp"
#include "word_row.hpp"

namespace groundup {

// Which of the pairs with the highest count is merged next.
enum class Ties {
    hugging_face,  // the smaller (left id, right id); byte ids in the order of GPT-2's alphabet
    raw,           // the smaller (left id, right id); byte ids are the bytes
    cs336,         // the greater (bytes of left, bytes of right)
};

// Ids 0..255 are bytes, 256 + n is the token that merge n made.
struct Merge {
    uint32_t left, right;
};

namespace merging {

// The symbols met on one side of the new token during one merge: for each the sum of weights, and the places.
class Neighbours {
public:
    struct Sum {
        uint64_t weight = 0;
        uint32_t num_places = 0;
        uint32_t* places = nullptr;  // where the places are to be written, if they are wanted
    };

    explicit Neighbours(size_t num_symbols) : sums_(num_symbols) {}

    void begin(size_t max_places) {
        if (places_.size() < max_places) places_.resize(max_places);
        next_place_ = places_.data();
    }

    void add(uint32_t symbol, uint32_t boundary, uint64_t weight) {
        Sum& sum = sums_[symbol];
        if (sum.num_places++ == 0) symbols_.push_back(symbol);
        sum.weight += weight;
        *next_place_++ = {symbol, boundary};
    }

    const std::vector<uint32_t>& symbols() const { return symbols_; }
    Sum& operator[](uint32_t symbol) { return sums_[symbol]; }

    // Write the places that are wanted, then forget everything.
    void end() {
        for (const Place* place = places_.data(); place != next_place_; ++place)
            if (uint32_t*& wanted = sums_[place->symbol].places) *wanted++ = place->boundary;
        for (const uint32_t symbol : symbols_) sums_[symbol] = Sum{};
        symbols_.clear();
    }

private:
    struct Place {
        uint32_t symbol, boundary;
    };

    std::vector<Sum> sums_;          // by symbol
    std::vector<uint32_t> symbols_;  // those met
    std::vector<Place> places_;
    Place* next_place_ = nullptr;
};

// The order of pairs with equal counts by ids.
class SmallerIds {
public:
    explicit SmallerIds(const uint8_t*) {}
    void add_token(Pair) {}
    bool operator()(Pair first, Pair second) const { return first < second; }
};

// The order of pairs with equal counts by the bytes of their tokens.
class GreaterBytes {
public:
    explicit GreaterBytes(const uint8_t* id_of_byte) : tokens_(256) {
        for (int byte = 0; byte < 256; ++byte) tokens_[id_of_byte[byte]] = static_cast<char>(byte);
    }

    void add_token(Pair pair) { tokens_.push_back(tokens_[left_of(pair)] + tokens_[right_of(pair)]); }

    bool operator()(Pair first, Pair second) const {  // std::string compares characters as unsigned.
        const int order = tokens_[left_of(first)].compare(tokens_[left_of(second)]);
        return order != 0 ? order > 0 : tokens_[right_of(first)] > tokens_[right_of(second)];
    }

private:
    std::vector<std::string> tokens_;
};

template <class Order>
class Trainer {
public:
    // Each merge makes a token that no word had before, so there cannot be more merges than bytes.
    Trainer(const Words& words, const uint8_t* id_of_byte, size_t num_merges, uint64_t min_frequency)
        : num_merges_(std::min(num_merges, words.num_bytes())),
          min_frequency_(std::max<uint64_t>(min_frequency, 1)),
          border_(static_cast<uint32_t>(256 + num_merges_)),
          row_(words, id_of_byte, border_),
          lengths_(border_ + 1, 1),
          before_(border_ + 1),
          after_(border_ + 1),
          order_(id_of_byte) {}

    Trainer(const Trainer&) = delete;  // The candidates' comparison points to the order.

    std::vector<Merge> run(const std::function<bool(double)>& progress) {
        std::vector<Merge> merges;
        count_bytes(std::max(min_frequency_, row_.total_weight / kFirstThreshold));
        while (merges.size() < num_merges_) {
            if (candidates_.empty()) {
                if (threshold_ == min_frequency_) break;
                count(lower_threshold(merges.size()));
                continue;
            }
            const Candidate best = candidates_.top();
            candidates_.pop();
            const Entry entry = *table_.find(best.pair);
            if (entry.count < best.count) {  // Other merges have taken places from it.
                if (entry.count >= threshold_) candidates_.push({entry.count, best.pair});
                continue;
            }
            order_.add_token(best.pair);
            merge(entry, static_cast<uint32_t>(256 + merges.size()));
            merges.push_back({left_of(best.pair), right_of(best.pair)});
            const size_t done = merges.size();
            if (done * 100 / num_merges_ == (done - 1) * 100 / num_merges_) continue;
            if (!progress(static_cast<double>(done) / static_cast<double>(num_merges_))) break;
        }
        return merges;
    }

private:
    struct Candidate {
        uint64_t count;
        Pair pair;
    };

    struct Worse {
        const Order* precedes;
        bool operator()(const Candidate& a, const Candidate& b) const {
            return a.count != b.count ? a.count < b.count : (*precedes)(b.pair, a.pair);
        }
    };

    using Candidates = std::priority_queue<Candidate, std::vector<Candidate>, Worse>;

    static constexpr uint64_t kFirstThreshold = 1 << 14;  // a part of the total weight: about the 1000th merge
    static constexpr uint32_t kAhead = 16;                // How many places ahead the row is fetched.

    // The best count falls about as 1/rank (Zipf), or somewhat faster. The aim is a threshold just below the count
    // of the last merge: one above it costs another count of the row, one far below it tracks pairs for nothing.
    uint64_t lower_threshold(size_t num_done) const {
        const uint64_t divisor = std::clamp<uint64_t>(4 * num_merges_ / (num_done + 1), 4, 128);
        return std::max(min_frequency_, threshold_ / divisor);
    }

    // `count` before the first merge: pairs of bytes are few enough for a table of all.
    void count_bytes(uint64_t threshold) {
        threshold_ = threshold;
        constexpr uint32_t kNone = ~uint32_t{0};
        std::vector<uint64_t> counts(1 << 16);
        std::vector<uint32_t> num_places(1 << 16), entry_of(1 << 16, kNone);
        const uint32_t* const symbols = row_.symbols.get();
        const auto each = [&](auto visit) {
            for (uint32_t boundary = 1; boundary < row_.size; ++boundary)
                if ((symbols[boundary - 1] | symbols[boundary]) < 256)
                    visit(boundary, symbols[boundary - 1] << 8 | symbols[boundary]);
        };
        each([&](uint32_t boundary, uint32_t index) {
            counts[index] += row_.weights[boundary].value();
            ++num_places[index];
        });
        std::vector<Candidate> candidates;
        for (uint32_t index = 0; index < counts.size(); ++index) {
            if (!counts[index] || counts[index] < threshold_) continue;
            const Pair pair = pair_of(index >> 8, index & 255);
            entry_of[index] = static_cast<uint32_t>(table_.entries().size());
            Entry& entry = table_.add(pair);
            entry.count = counts[index];
            entry.places = arena_.allocate(num_places[index]);
            candidates.push_back({entry.count, pair});
        }
        candidates_ = Candidates(Worse{&order_}, std::move(candidates));
        each([&](uint32_t boundary, uint32_t index) {
            if (entry_of[index] == kNone) return;
            Entry& entry = table_.entries()[entry_of[index]];
            entry.places[entry.num_places++] = boundary;
        });
    }

    // Track the pairs of the row that occur at least `threshold` times.
    void count(uint64_t threshold) {
        threshold_ = threshold;
        table_ = {};
        arena_ = {};
        const CountBounds bounds = squeeze();
        for_each_frequent(bounds, [&](uint32_t boundary) {
            const Pair pair = row_.pair_at(boundary);
            Entry* known = table_.find(pair);
            Entry& entry = known ? *known : table_.add(pair);
            entry.count += row_.weights[boundary].value();
            ++entry.num_places;
        });
        std::vector<Candidate> candidates;
        for (Entry& entry : table_.entries()) {
            if (entry.count < threshold_) continue;
            candidates.push_back({entry.count, entry.pair});
            entry.places = arena_.allocate(std::exchange(entry.num_places, 0));
        }
        candidates_ = Candidates(Worse{&order_}, std::move(candidates));
        for_each_frequent(bounds, [&](uint32_t boundary) {
            Entry& entry = *table_.find(row_.pair_at(boundary));
            if (entry.places) entry.places[entry.num_places++] = boundary;
        });
    }

    // Write the row anew with each token at one position and without words of one token; bounds of its pairs' counts.
    CountBounds squeeze() {
        CountBounds bounds(row_.total_weight, threshold_);
        uint32_t* const symbols = row_.symbols.get();
        size_t to = 1;
        for (size_t from = 1; from < row_.size; from += lengths_[symbols[from]]) {
            const uint32_t symbol = symbols[from], previous = symbols[to - 1];
            if (symbol == border_ && symbols[to - 2] == border_) {
                --to;
                continue;
            }
            const Weight weight = row_.weights[to] = row_.weights[from];
            if (symbol != border_ && previous != border_) bounds.add(pair_of(previous, symbol), weight.value());
            symbols[to++] = symbol;
        }
        row_.size = to;
        std::fill(lengths_.begin(), lengths_.end(), 1);
        return bounds;
    }

    // Visit the boundaries of all pairs that may be frequent. They are collected without a branch first, since which
    // pairs are frequent cannot be predicted.
    template <class Visit>
    void for_each_frequent(const CountBounds& bounds, Visit visit) const {
        std::array<uint32_t, 1024> frequent;
        for (size_t begin = 1; begin < row_.size; begin += frequent.size()) {
            const size_t end = std::min(begin + frequent.size(), row_.size);
            size_t num_frequent = 0;
            for (size_t boundary = begin; boundary < end; ++boundary) {
                const uint32_t left = row_.symbols[boundary - 1], right = row_.symbols[boundary];
                frequent[num_frequent] = static_cast<uint32_t>(boundary);
                num_frequent += (left != border_) & (right != border_) & (bounds[pair_of(left, right)] >= threshold_);
            }
            for (size_t i = 0; i < num_frequent; ++i) visit(frequent[i]);
        }
    }

    // Put `token` wherever the pair stands, from left to right.
    void merge(const Entry& merged, uint32_t token) {
        const uint32_t left = left_of(merged.pair), right = right_of(merged.pair);
        const uint32_t left_length = lengths_[left], right_length = lengths_[right];
        lengths_[token] = left_length + right_length;
        uint32_t* const symbols = row_.symbols.get();
        before_.begin(merged.num_places);
        after_.begin(merged.num_places);
        for (uint32_t i = 0; i < merged.num_places; ++i) {
            const uint32_t ahead = merged.places[std::min(i + kAhead, merged.num_places - 1)];
            __builtin_prefetch(&symbols[ahead]);
            __builtin_prefetch(&row_.weights[ahead]);
            const uint32_t boundary = merged.places[i];
            if (symbols[boundary - 1] != left || symbols[boundary] != right) continue;
            const uint32_t begin = boundary - left_length, end = boundary + right_length;
            symbols[begin] = symbols[end - 1] = token;
            const uint64_t weight = row_.weights[boundary].value();
            // In "abab" the pair (ab, ab) is made once: from its left token, which sees that the right one follows.
            if (symbols[begin - 1] != token) before_.add(symbols[begin - 1], begin, weight);
            const bool repeats = symbols[end] == left && symbols[end + left_length] == right;
            after_.add(repeats ? token : symbols[end], end, weight);
        }
        const auto vanished_after = [&](uint32_t symbol) { return pair_of(right, symbol == token ? left : symbol); };
        for (const uint32_t symbol : before_.symbols()) table_.prefetch(pair_of(symbol, left));
        for (const uint32_t symbol : after_.symbols()) table_.prefetch(vanished_after(symbol));
        for (const uint32_t symbol : before_.symbols())
            if (symbol != border_) replace(pair_of(symbol, left), pair_of(symbol, token), before_[symbol]);
        for (const uint32_t symbol : after_.symbols())
            if (symbol != border_) replace(vanished_after(symbol), pair_of(token, symbol), after_[symbol]);
        before_.end();
        after_.end();
    }

    // Take from one pair what a merge gives to another; the new one is tracked if it is frequent.
    void replace(Pair vanished, Pair created, Neighbours::Sum& sum) {
        if (Entry* entry = table_.find(vanished)) entry->count -= sum.weight;
        if (sum.weight < threshold_) return;
        sum.places = arena_.allocate(sum.num_places);
        Entry& entry = table_.add(created);
        entry.count = sum.weight;
        entry.places = sum.places;
        entry.num_places = sum.num_places;
        candidates_.push({sum.weight, created});
    }

    const size_t num_merges_;
    const uint64_t min_frequency_;
    const uint32_t border_;  // the id after the last token's
    Row row_;
    std::vector<uint32_t> lengths_;  // in positions, by symbol
    uint64_t threshold_ = 0;         // Every pair of the row that occurs so often is tracked.
    PairTable table_;
    PlaceArena arena_;
    Neighbours before_, after_;
    Order order_;
    Candidates candidates_{Worse{&order_}};  // Their counts may be out of date: too high, never too low.
};

}  // namespace merging

// The merges in order, at most `num_merges`: fewer if no pair is left, none occurs `min_frequency` times, or
// `progress`, called about 100 times with the fraction done, returns false.
//
// Word n of `num_words` distinct ones is text[offsets[n] .. offsets[n + 1]) and occurs counts[n] times; `id_of_byte`
// has the ids of the 256 bytes. std::length_error if the words have more than 4 GB.
inline std::vector<Merge> train_merges(const uint8_t* text, const uint64_t* offsets, const uint64_t* counts,
                                       size_t num_words, const uint8_t* id_of_byte, size_t num_merges,
                                       uint64_t min_frequency, Ties ties, const std::function<bool(double)>& progress) {
    const merging::Words words{text, offsets, counts, num_words};
    if (ties == Ties::cs336)
        return merging::Trainer<merging::GreaterBytes>(words, id_of_byte, num_merges, min_frequency).run(progress);
    return merging::Trainer<merging::SmallerIds>(words, id_of_byte, num_merges, min_frequency).run(progress);
}

}  // namespace groundup
