#pragma once
#include <cstddef>
#include <cstdint>

namespace action100m {

// Counts the words in n texts: runs of characters other than ASCII white space. Text i has the
// characters from offsets[i] to offsets[i+1]; it is left out if given[i] is false.
std::int64_t count_words(const std::int32_t* offsets, const bool* given, std::size_t n,
                         const std::uint8_t* characters);

}  // namespace action100m
