#include <string>
#include <vector>

#include "core/words.h"
#include "tests/check.h"

namespace {

using Texts = std::vector<std::string>;

std::int64_t count(const Texts& texts, std::size_t left_out = SIZE_MAX) {
  std::vector<std::int32_t> offsets{0};
  std::string characters;
  for (const std::string& text : texts) {
    characters += text;
    offsets.push_back(static_cast<std::int32_t>(characters.size()));
  }
  const std::vector<std::uint8_t> bytes(characters.begin(), characters.end());
  bool given[8];
  for (std::size_t i = 0; i < texts.size(); ++i) given[i] = i != left_out;
  return action100m::count_words(offsets.data(), given, texts.size(), bytes.data());
}

void words_are_runs_of_what_is_no_space() {
  CHECK(count({}) == 0 && count({""}) == 0 && count({" \t\n\v\f\r "}) == 0);
  CHECK(count({"one"}) == 1 && count({" two\twords "}) == 2);
  CHECK(count({"caf\xc3\xa9 \x08 \x0e"}) == 3);
}

void a_text_ends_the_word_before_it() { CHECK(count({"one", "two", "", " three"}) == 3); }

void what_is_not_given_does_not_count() { CHECK(count({"one", "two more", "three"}, 1) == 2); }

void long_texts_are_counted_to_the_end() {
  for (std::size_t length = 0; length < 1100; ++length) {
    std::string text(length, 'a');
    for (std::size_t i = 1; i < length; i += 2) text[i] = ' ';
    CHECK(count({text}) == static_cast<std::int64_t>((length + 1) / 2));
  }
}

}  // namespace

int main() {
  words_are_runs_of_what_is_no_space();
  a_text_ends_the_word_before_it();
  what_is_not_given_does_not_count();
  long_texts_are_counted_to_the_end();
}
