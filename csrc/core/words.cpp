#include "core/words.h"

#include <algorithm>

namespace action100m {

namespace {

constexpr std::int64_t kAtOnce = 255;  // a count that fits into a byte lets the loop vectorise

std::uint8_t is_space(std::uint8_t character) {
  const auto after_tab = static_cast<std::uint8_t>(character - '\t');  // wraps around below it
  return static_cast<std::uint8_t>((after_tab <= '\r' - '\t') | (character == ' '));
}

std::int64_t words(const std::uint8_t* text, std::int64_t length) {
  std::int64_t total = length > 0 && !is_space(text[0]);
  for (std::int64_t begin = 1; begin < length; begin += kAtOnce) {
    const std::int64_t end = std::min(length, begin + kAtOnce);
    std::uint8_t begun = 0;
    for (std::int64_t i = begin; i < end; ++i) {
      begun = static_cast<std::uint8_t>(begun + (is_space(text[i - 1]) & (is_space(text[i]) ^ 1)));
    }
    total += begun;
  }
  return total;
}

}  // namespace

std::int64_t count_words(const std::int32_t* offsets, const bool* given, std::size_t n,
                         const std::uint8_t* characters) {
  std::int64_t total = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (given[i]) total += words(characters + offsets[i], offsets[i + 1] - offsets[i]);
  }
  return total;
}

}  // namespace action100m
