// The loops over text, compiled for several instruction sets; the best that this processor has is used.
#pragma once

#include "patterns.hpp"
#include "piece_counts.hpp"

namespace groundup {

struct PatternKernels {
    size_t (*scan)(const uint8_t* text, size_t size, size_t start, uint32_t* ends, size_t capacity);
    size_t (*encode)(const Vocabulary&, PieceCache&, const uint8_t* text, size_t size, uint32_t* ids);
    void (*count)(PieceCounts&, const uint8_t* text, size_t size);
};

struct Kernels {
    const char* name;
    void (*learn_characters)(Vocabulary&);
    void (*find_whole_pieces)(Vocabulary&);
    void (*recover_merges)(Vocabulary&, uint32_t* merges);
    PatternKernels patterns[5];  // by Pattern
    // For pieces that were cut elsewhere: they end at ends[0], ends[1], ...
    size_t (*encode_given)(const Vocabulary&, PieceCache&, const uint8_t* text, size_t size, const uint32_t* ends,
                           size_t num_pieces, uint32_t* ids);
    void (*count_given)(PieceCounts&, const uint8_t* text, size_t size, size_t start, const uint32_t* ends,
                        size_t num_pieces);
};

// "avx512", "avx2" or "portable"; nullptr if this build or this processor does not have it.
const Kernels* kernels(const char* name);
const Kernels& best_kernels();

}  // namespace groundup
