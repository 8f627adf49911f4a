#pragma once
#include <cstddef>
#include <cstdint>

namespace action100m {

// How many runs of anything but ASCII white space there are in n texts together. Text i has the
// characters from offsets[i] to offsets[i+1]; it is left out where given[i] is false.
std::int64_t count_words(const std::int32_t* offsets, const bool* given, std::size_t n,
                         const std::uint8_t* characters);

}  // namespace action100m
